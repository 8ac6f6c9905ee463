"""Cited sentences against their passages: what they say must be there, in whatever language it is said."""

from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat.support import sentences, unsupported
from chat_api.core.words import numbers_in
from tests.chat_api.chat.passages import passage

DELIVERY = passage(
    "Parcels ordered by 11:30 leave on the same day. A pallet to the Highlands costs £1,290.50 and takes 3 days. "
    "Our warehouse is in Glasgow and the carrier is Northern Freight.",
    title="Delivery",
)
RETURNS = passage(
    "You can send goods back within 30 days. The refund is paid to your card within a week.", title="Returns"
)
LIEFERUNG = passage(
    "Bestellungen bis 11:30 Uhr verlassen das Lager am selben Tag. Der Versand einer Palette kostet 74,50 Euro und die "
    "Lieferung dauert in der Regel zwei Werktage.",
    title="Lieferung",
)


def marked(answer: str, *passages: object) -> list[str]:
    """The sentences of the answer that are not supported."""
    found = unsupported(answer, [*passages] if passages else [DELIVERY, RETURNS], "Robin")  # type: ignore[list-item]
    return [answer[span.start : span.end] for span in found]


@pytest.mark.parametrize(
    "answer",
    [
        "Parcels ordered by 11:30 leave the same day [1].",
        "If you order a parcel by 11:30, it leaves on that same day. [1]",
        "A pallet to the Highlands is £1290.5 [1] and takes 3 days [1].",
        "The warehouse in Glasgow uses Northern Freight [1].",
        "You can return goods within 30 days [2]. Refunds go to your card [2].",
        "- Same-day parcels: ordered by 11:30 [1]\n- Refunds within a week [2]",
        "1. Parcels leave the same day [1]\n2. Goods can be sent back within 30 days [2]",
        "Robin says: parcels leave the same day [1].",
        "Parcels leave the same day, and goods go back within 30 days [1][2].",
        "Pakete, die bis 11:30 Uhr bestellt werden, gehen noch am selben Tag raus [1].",
        "No citation here: it costs 99 euros in Timbuktu.",
        "",
    ],
)
def test_what_the_passages_say_is_supported(answer: str) -> None:
    assert marked(answer) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Parcels ordered by 12:30 leave the same day [1].", ["Parcels ordered by 12:30 leave the same day"]),
        ("Fine. A pallet costs £1,390.50 [1].", ["A pallet costs £1,390.50"]),
        ("Goods go back within 30 days [1].", ["Goods go back within 30 days"]),
        ("The carrier is Southern Express [1].", ["The carrier is Southern Express"]),
        ("The warehouse lies in Aberdeen [1].", ["The warehouse lies in Aberdeen"]),
        ("Elephants are welcome guests at every party we organise [1].", None),
        ("Parcels leave the same day [1]. Shipping is free over 50 euros [1].", ["Shipping is free over 50 euros"]),
        ("- Parcels leave the same day [1]\n- It takes 9 days [1]", ["- It takes 9 days"]),
        ("Pakete gehen bis 14:00 Uhr noch am selben Tag raus [1].", None),
        ("It never arrives, whoever asks about that [7].", None),
    ],
)
def test_what_they_do_not_say_is_marked(answer: str, expected: list[str] | None) -> None:
    found = marked(answer)
    assert len(found) == 1
    assert expected is None or [one.replace(" [1]", "").rstrip(".") for one in found] == expected


def test_a_passage_s_own_day_is_said_by_it() -> None:
    tour = passage("A guided tour of the brewery costs fifteen euros.", dated=date(2024, 5, 6))
    for day in ("2024-05-06", "6 May 2024", "May 2024", "06/05/2024"):
        assert marked(f"A guided tour of the brewery costs fifteen euros as of {day} [1].", tour) == []
    for day in ("2024-05-07", "6 May 2023"):
        assert marked(f"A guided tour of the brewery costs fifteen euros as of {day} [1].", tour) != []


def test_german_nouns_are_no_names() -> None:
    assert marked("Bei Bestellung bis 11:30 Uhr erfolgt der Versand am selben Tag [1].", LIEFERUNG) == []
    assert marked("Die Palette kostet 74,50 Euro [1].", LIEFERUNG) == []
    assert len(marked("Die Palette kostet 75,50 Euro [1].", LIEFERUNG)) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Ab einem Bestellwert von 50 Euro ist der Versand kostenlos [1].", 0),
        ("Le transporteur livre dans les trois jours et en Allemagne avec Chronopost [1].", 0),
        ("Das ist nicht schwer. Kostenloser Versand ab 50 Euro [1].", 0),
        ("Allemagne: 50 [1].", 0),
        ("Ab einem Bestellwert von 60 Euro ist der Versand kostenlos [1].", 1),
        ("Delivery is free to Sweden from an order of 50 euros [1].", 1),
    ],
)
def test_names_are_looked_for_in_the_same_language_alone(answer: str, expected: int) -> None:
    text = "Delivery is free from an order value of 50 euros. We ship to Germany, and the parcels take 3 days."
    assert len(marked(answer, passage(text))) == expected


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("1,250", "1250", True), ("1.250", "1250", True), ("1.250,50", "1250.5", True), ("1 250", "1250", True),
        ("2.50", "2.5", True), ("007", "7", True), ("11:30", "11:30", True), ("1,250", "1251", False),
        ("2.5", "25", False), ("11:30", "1130", False), ("10", "100", False), ("9:00", "9", True), ("09:00", "9:00", True),
        ("9:30", "9", False), ("3.3.2025", "03.03.2025", True), ("3.3.2025", "4.3.2025", False),
        ("1.5 million", "1,500,000", True), ("1,5 Mio.", "1.500.000", True), ("2 thousand", "2000", True),
        ("1.5 million", "1500", False), ("2 miles", "2000000", False), ("1 250 million", "1000000", False),
    ],
)  # fmt: skip
def test_numbers_are_read_as_languages_write_them(one: str, two: str, same: bool) -> None:
    ((_, first),), ((_, second),) = numbers_in(one), numbers_in(two)
    assert bool(first & second) is same


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("31.12.", 0), ("31.12.2025", 0), ("01.05.", 0), ("1.5.2026", 0), ("2026-05-01", 0), ("030-123 45 67", 0),
        ("(030) 1234567", 0), ("31.11.", 1), ("30.12.2025", 1), ("31.12.2026", 1), ("030 1234568", 1), ("030 123", 1),
        ("0.5", 0), ("0,5", 0), ("0.7", 1),
    ],
)  # fmt: skip
def test_days_and_telephones_are_read_in_any_spelling(said: str, expected: int) -> None:
    shop = passage("The shop has the number 030 1234567. It is shut from 31.12.2025 until 2026-05-01: 0.5 a month.")
    assert len(marked(f"The shop is shut and the number is {said} [1]", shop)) == expected


def test_a_german_day_is_no_end_of_a_sentence() -> None:
    answer = "Am 3. März 2025 gilt das [1]. Es sind 30. Danach ist der Laden im 2. Stock zu [1]."
    assert [answer[span.start : span.end].strip() for span in sentences(answer)] == [
        "Am 3. März 2025 gilt das [1].", "Es sind 30.", "Danach ist der Laden im 2. Stock zu [1].",
    ]  # fmt: skip


@given(st.text(alphabet="ab A1.[]\n!?-*", max_size=80))
def test_spans_are_within_the_answer_in_their_order(answer: str) -> None:
    spans = list(sentences(answer))
    assert all(one.end <= two.start for one, two in pairwise(spans))
    assert "".join("".join(answer[span.start : span.end] for span in spans).split()) == "".join(answer.split())
    for span in unsupported(answer, [DELIVERY]):
        assert 0 <= span.start < span.end <= len(answer)
