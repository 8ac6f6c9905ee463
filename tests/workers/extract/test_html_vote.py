"""Whether a text's words are among those that were chosen, however many these are."""

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from workers.extract.html_vote import Vote, votable

WORDS = st.lists(st.sampled_from(["Tea", "cup", "milk", "sugar", "SPOON", "naïve"]), max_size=30)


def chosen(words: list[str]) -> Vote:
    """A vote for these words, one to a paragraph."""
    body = etree.Element("body")
    for word in words:
        etree.SubElement(body, "p").text = word
    return Vote(body)


@given(chosen_words=WORDS, words=st.lists(st.sampled_from(["tea", "CUP", "milk", "lid"]), max_size=5))
def test_words_are_held_where_they_stand_side_by_side(chosen_words: list[str], words: list[str]) -> None:
    text = f" {' '.join(chosen_words)} ".casefold()
    assert chosen(chosen_words).holds(", ".join(words)) == (bool(words) and f" {' '.join(words)} ".casefold() in text)


def test_two_of_a_long_text_s_three_samples_are_enough() -> None:
    words = [f"word{number}" for number in range(60)]
    vote = chosen(words)
    assert vote.holds(" ".join(["Other", *words[1:]]))
    assert not vote.holds(" ".join(["Other", *words[1:-1], "other"]))


def test_nothing_holds_nothing() -> None:
    assert not Vote().holds("Tea")
    assert not chosen(["Tea"]).holds("…")


def test_most_of_what_was_chosen_is_from_the_texts_or_not() -> None:
    vote = chosen([f"word{number}" for number in range(10)])
    assert vote.is_from(["word0 word1 word2", "word3 word4 word5"])
    assert vote.is_from(["word5 word0", "word1 word4 word2 word3"])
    assert not vote.is_from(["word0 word1 word2", "word3 word4 other"])


def test_trafilatura_is_not_asked_of_a_crowd() -> None:
    crowd = etree.fromstring(f"<body>{'<b>x</b>' * 4_001}</body>")
    assert not votable(crowd)
    assert votable(etree.fromstring(f"<body>{'<p>x</p>' * 4_001}</body>"))
