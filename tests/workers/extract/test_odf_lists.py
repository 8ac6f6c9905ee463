"""OpenDocument lists: numbers that go on, begin elsewhere, or belong to a named style, and what is anchored in items."""

import io
from typing import Any

from odf import draw, opendocument, text

from tests.workers.extract.files import read, texts
from workers.documents import Document


def document(*elements: object, named: bool = False) -> Document:
    """A text of these elements, with the list style `Numbers`: two levels of numbers, then bullets."""
    made = opendocument.OpenDocumentText()
    numbers = text.ListStyle(name="Numbers")
    for level, start in ((1, 1), (2, 3)):
        numbers.addElement(text.ListLevelStyleNumber(level=level, numformat="1", startvalue=start))
    numbers.addElement(text.ListLevelStyleBullet(level=3, bulletchar="•"))
    (made.styles if named else made.automaticstyles).addElement(numbers)
    for element in elements:
        made.text.addElement(element)
    buffer = io.BytesIO()
    made.save(buffer)
    return read(buffer.getvalue())


def item(*inside: object, **attributes: Any) -> Any:
    """A list's item: words are its paragraphs."""
    made = text.ListItem(**attributes)
    for one in inside:
        made.addElement(text.P(text=one) if isinstance(one, str) else one)
    return made


def items(*inside: object, stylename: str = "Numbers", name: str = "", after: str = "") -> Any:
    """A list; `name` is its id, and `after` that of the list that it goes on with."""
    made = text.List(stylename=stylename)
    for key, value in (("id", name), ("continuelist", after)):
        if value:
            made.setAttribute(key, value)
    for one in inside:
        made.addElement(item(one) if isinstance(one, str) else one)
    return made


def test_a_list_goes_on_with_the_one_that_it_names() -> None:
    first = items("a", "b", name="list1")
    second = items("x", name="list2")
    third = items("c", name="list3", after="list1")
    fourth = items("d", name="list4", after="list3")
    found = texts(document(first, text.P(text="one"), second, text.P(text="two"), third, text.P(text="three"), fourth))
    assert found == ["1. a\n2. b", "one", "1. x", "two", "3. c", "three", "4. d"]


def test_a_list_goes_on_with_the_last_of_its_style() -> None:
    second = items("c")
    second.setAttribute("continuenumbering", "true")
    assert texts(document(items("a", "b"), text.P(text="between"), second)) == ["1. a\n2. b", "between", "3. c"]
    assert texts(document(items("a"), text.P(text="between"), items("b"))) == ["1. a", "between", "1. b"]


def test_a_list_may_go_on_within_an_item() -> None:
    first = items(item("a", items("b")), name="list1")
    second = items(item(items("c", stylename="")), "d", name="list2", after="list1")
    assert texts(document(first, text.P(text="between"), second)) == ["1. a\n  3. b", "between", "4. c\n2. d"]


def test_items_may_say_their_number_and_empty_ones_count() -> None:
    made = items("a", item("b", startvalue=7), item(text.P()), "c")
    assert texts(document(made)) == ["1. a\n7. b\n9. c"]


def test_levels_differ_and_named_styles_count() -> None:
    made = items(item("a", items(item("b", items("c")), "d")), item("e", items("f")))
    assert texts(document(made, named=True)) == ["1. a\n  3. b\n    - c\n  4. d\n2. e\n  3. f"]


def test_text_boxes_in_items_come_after_the_list() -> None:
    box, frame, anchor = draw.TextBox(), draw.Frame(), text.P(text="a")
    box.addElement(text.P(text="in the box"))
    frame.addElement(box)
    anchor.addElement(frame)
    inner = items(item(anchor))
    assert texts(document(items(item("one", inner), "two"))) == ["1. one\n  3. a\n2. two", "in the box"]


def test_a_list_header_has_no_number() -> None:
    made, header = items("a"), text.ListHeader()
    header.addElement(text.P(text="Steps"))
    made.insertBefore(header, made.firstChild)
    assert texts(document(made)) == ["- Steps\n1. a"]
