"""Bytes become the text that was meant, whatever was declared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.extract.encoding import decode, meta_charset

GERMAN = "Schöne Grüße – das „Öl“ kostet 5 €."
RUSSIAN = "Доставка занимает три рабочих дня, иногда дольше. Возврат возможен в течение месяца."
JAPANESE = "送料は五百円です。返品は三十日以内にお願いします。"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_without_any_declaration(encoding: str) -> None:
    text = GERMAN * 4
    decoded = decode(text.encode(encoding))
    assert decoded.text == text
    assert not decoded.lossy


@pytest.mark.parametrize(
    ("text", "encoding", "label"),
    [
        (RUSSIAN, "koi8-r", "KOI8-R"),
        (RUSSIAN, "cp1251", "windows-1251"),
        (JAPANESE, "shift_jis", "Shift_JIS"),
        (JAPANESE, "euc_jp", "EUC-JP"),
        (JAPANESE, "iso2022_jp", "ISO-2022-JP"),
        (GERMAN, "cp1252", "iso-8859-1"),
        ("繁體中文網頁", "big5", "big5"),
        ("简体中文网页", "gbk", "gb2312"),
    ],
)
def test_declared_encodings_as_browsers_read_them(text: str, encoding: str, label: str) -> None:
    assert decode(text.encode(encoding), (label,)).text == text


@pytest.mark.parametrize("lie", ["iso-8859-1", "ascii", "shift_jis", "no-such-charset", "", "base64", "idna"])
def test_valid_utf8_outweighs_a_false_declaration(lie: str) -> None:
    assert decode(GERMAN.encode(), (lie,)).text == GERMAN


def test_undeclared_legacy_text_is_guessed() -> None:
    assert decode((RUSSIAN * 3).encode("cp1251")).text == RUSSIAN * 3


def test_the_second_declaration_counts_when_the_first_does_not_fit() -> None:
    assert decode(RUSSIAN.encode("cp1251"), ("utf-8", "windows-1251")).text == RUSSIAN


@pytest.mark.parametrize("label", ["idna", "unicode_escape", "utf-7", "rot13", "undefined"])
def test_what_only_python_calls_a_charset_is_ignored(label: str) -> None:
    assert decode(GERMAN.encode("cp1252"), (label,)).text == GERMAN


def test_a_few_bad_bytes_are_replaced_and_told() -> None:
    decoded = decode(GERMAN.encode() + b"\xff\xfe broken", ("utf-8",))
    assert decoded.text == GERMAN + "\ufffd\ufffd broken"
    assert decoded.lossy


@pytest.mark.parametrize("declared", [(), ("",), ("no-such-charset",)])
@pytest.mark.parametrize("text", [GERMAN * 4, RUSSIAN, JAPANESE, "Herr Müller wohnt in Köln. "])
def test_a_few_bad_bytes_make_no_other_encoding_of_utf8_that_nobody_declares(
    text: str, declared: tuple[str, ...]
) -> None:
    for bad in (b"\xe9", b"\x92", b"\xff"):
        decoded = decode(text.encode() + b"caf" + bad + b" end", declared)
        assert decoded == (f"{text}caf\ufffd end", "utf-8", True)


def test_bad_bytes_are_judged_by_all_of_the_text() -> None:
    plain = "a line of text\n" * 10_000
    assert decode(b"caf\xe9 " + (plain + GERMAN * 4).encode()).text == f"caf\ufffd {plain}{GERMAN * 4}"
    assert decode((plain + GERMAN).encode("cp1252")).text == plain + GERMAN


def test_text_that_is_cut_within_a_character_is_utf8() -> None:
    assert decode(RUSSIAN.encode()[:-2]).text == RUSSIAN[:-2] + "\ufffd"


CZECH = "Žluťoučký kůň úpěl ďábelské ódy, příliš žlutý. Otevřeno je každý den kromě neděle."
CHINESE = "简体中文网页的退货政策是三十天之内可以退货,运费由买家承担。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((GERMAN, "cp1252"), ("The café costs £5.", "cp1252"), ("ÃÂ and Ã© are letters, too.", "cp1252")),
        *((RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp"), (CHINESE, "gbk")),
        *((CZECH, "cp1250"), (CZECH, "iso8859-2")),
    ],
)
def test_older_encodings_are_not_taken_for_damaged_utf8(text: str, encoding: str) -> None:
    for times in (1, 5, 200):
        decoded = decode((text * times).encode(encoding))
        assert decoded.encoding != "utf-8"
        assert "\ufffd" not in decoded.text


@pytest.mark.parametrize(
    ("markup", "charset"),
    [
        (b'<meta charset="koi8-r">', "koi8-r"),
        (b'<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset=windows-1252">', "windows-1252"),
        (b"<p>charset=utf-8</p>", None),
    ],
)
def test_meta_charset(markup: bytes, charset: str | None) -> None:
    assert meta_charset(markup) == charset


@given(st.binary(max_size=400), st.lists(st.text(max_size=12), max_size=2))
def test_any_bytes_become_text(body: bytes, labels: list[str]) -> None:
    assert isinstance(decode(body, labels).text, str)
