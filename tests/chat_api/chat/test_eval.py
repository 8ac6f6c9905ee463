"""The operator's `eval`: questions of a file put to a running API, the rates it prints, what it refuses."""

import argparse
import json
from pathlib import Path

import pytest

from tests.chat_api.chat_world import Chat, TestBot
from tests.chat_api.forge import MISSING
from workers.cli import make_parser
from workers.commands.eval import TOKEN, EvalError, evaluate, read_questions
from workers.commands.hits import Passage, judged, rates_by_language

QUESTIONS = [
    {"question": "How is the kettle descaled?", "expected": "kettle.html", "language": "en"},
    {"question": "When is the shop open?", "expected": "https://a.test/hours.html#x", "language": "en"},
    {"question": "Wo steht der Ofen?", "expected": "nowhere.html", "language": "de"},
    {"question": "Quantum chromodynamics?", "expected": "not answerable", "language": "de"},
]


@pytest.fixture
def bot(chat: Chat) -> TestBot:
    """A bot with two pages."""
    bot = chat.add_bot(similarity_threshold=0.3)
    chat.teach(bot, ["The kettle is descaled with vinegar."], url="https://a.test/kettle.html")
    chat.teach(bot, ["The shop is open from nine to five."], url="https://a.test/hours.html#x")
    return bot


def written(folder: Path, name: str = "questions.jsonl", text: str | None = None) -> Path:
    """A file of questions."""
    path = folder / name
    path.write_text(text if text is not None else "\n".join(map(json.dumps, QUESTIONS)), encoding="utf-8")
    return path


def options(chat: Chat, bot: TestBot, path: Path, *more: str) -> argparse.Namespace:
    """The command's options as an operator gives them."""
    url = chat.ws_url.replace("ws", "http", 1).removesuffix("/api/chat/ws")
    token = bot.token(scope="training:read", sub="operator")
    return make_parser().parse_args(
        ["eval", str(path), "--bot", str(bot.bot_id), "--api-url", url, "--token", token, *more]
    )


def test_rates_are_printed_by_language(chat: Chat, bot: TestBot, tmp_path: Path) -> None:
    told: list[str] = []
    assert evaluate(options(chat, bot, written(tmp_path), "--min-hit", "0.6"), told.append) == 0
    rows = {line.split()[0]: line.split()[1:] for line in told[0].splitlines()[1:]}
    assert rows["en"] == ["2", "1.000", "1.000", "1.000", "1.000", "0/0", "0"]
    assert rows["de"][:5] == ["2", "0.000", "0.000", "0.000", "0.000"]
    assert rows["de"][5] == "1/1"
    assert rows["all"][:4] == ["4", "0.667", "0.667", "0.667"]
    assert evaluate(options(chat, bot, written(tmp_path), "--min-hit", "0.9"), told.append) == 1


def test_two_setups_stand_side_by_side(chat: Chat, bot: TestBot, tmp_path: Path) -> None:
    told: list[str] = []
    other = chat.add_bot(org_id=bot.org_id)
    chat.teach(other, ["The shop is open from nine to five."], url="https://a.test/hours.html")
    given = options(chat, bot, written(tmp_path), "--compare", f"bot={other.bot_id}", "--compare", "threshold=0")
    with pytest.raises(EvalError, match="403"):
        evaluate(given, told.append)
    given.token = bot.token(scope="training:read", bot_id=MISSING)
    assert evaluate(given, told.append) == 0
    rows = [line.split() for line in told[0].splitlines()[1:]]
    assert [row[0] for row in rows] == ["de", "compared", "en", "compared", "all", "compared"]
    assert rows[1][6] == "0/1", "with a threshold of 0 nothing is refused"
    assert told[1].splitlines() == ["place 1 → -: How is the kettle descaled?"]


def test_a_follow_up_is_asked_with_its_history(chat: Chat, bot: TestBot, tmp_path: Path) -> None:
    text = json.dumps(
        {"question": "And how?", "expected": "kettle.html", "history": [{"question": "Can the kettle be descaled?"}]}
    )
    told: list[str] = []
    assert evaluate(options(chat, bot, written(tmp_path, text=text)), told.append) == 0
    assert chat.rows("SELECT 1 FROM usage_days WHERE bot_id = %s AND purpose = 'rewrite'", bot.bot_id)


def test_a_file_without_an_address_is_known_by_its_name(chat: Chat, bot: TestBot, tmp_path: Path) -> None:
    source_id = chat.teach(bot, ["The oven is swept with a brush of straw."])
    chat.rows(
        "INSERT INTO pages (org_id, bot_id, source_id, generation, url, outcome, chunks) VALUES (%s, %s, %s, 1, %s, 'ok', 1)",
        bot.org_id, bot.bot_id, source_id, "s3://bucket/7f/Oven care #2?.pdf",
    )  # fmt: skip
    text = json.dumps({"question": "With what is the oven swept?", "expected": "oven care #2?.pdf"})
    told: list[str] = []
    assert evaluate(options(chat, bot, written(tmp_path, text=text), "--min-hit", "1"), told.append) == 0
    visitors = options(chat, bot, written(tmp_path, text=text), "--min-hit", "1")
    visitors.token = bot.token()
    assert evaluate(visitors, told.append) == 1, "who may not see the source's pages does not learn its name"


def test_an_api_that_is_away_is_no_success(
    chat: Chat, bot: TestBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.commands.eval.WAIT_S", 0)
    given = options(chat, bot, written(tmp_path))
    given.api_url = "http://127.0.0.1:1"
    told: list[str] = []
    assert evaluate(given, told.append) == 1


def test_a_token_is_needed_and_may_come_from_the_environment(
    chat: Chat, bot: TestBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(chat, bot, written(tmp_path))
    token, given.token = given.token, None
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(EvalError, match=TOKEN):
        evaluate(given, print)
    monkeypatch.setenv(TOKEN, token)
    assert evaluate(given, lambda _: None) == 0
    given.token = "wrong"
    with pytest.raises(EvalError, match="401"):
        evaluate(given, print)


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    table = 'question,expected,language,history\nWhy?,a.html,en,"[{""question"": ""How?""}]"\nWhat?,,,\n'
    [one, other] = read_questions(written(tmp_path, "a.csv", table))
    assert (one.expected, one.language, one.history) == ("a.html", "en", [{"question": "How?"}])
    assert (other.expected, other.language, other.history) == (None, "", [])
    assert read_questions(written(tmp_path, "a.json", json.dumps(QUESTIONS))) == read_questions(written(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", "", "no questions"),
        ("a.jsonl", "{", "not what its name says"),
        ("a.jsonl", '{"question": "a"}\n{"question": ""}', "question 2: question"),
        ("a.csv", "frage\nWarum?", "question 1: question"),
        ("a.json", "[1]", "question 1"),
        ("a.json", "1", "not what its name says"),
    ],
)
def test_what_is_no_file_of_questions_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(EvalError, match=said):
        read_questions(written(tmp_path, name, text))
    with pytest.raises(EvalError, match="can't be read"):
        read_questions(tmp_path / "missing.csv")


@pytest.mark.parametrize("change", ["threshold=high", "bot=robin", "history=some", "color=red", ""])
def test_only_what_can_be_compared_is(chat: Chat, bot: TestBot, tmp_path: Path, change: str) -> None:
    with pytest.raises(EvalError, match="--compare"):
        evaluate(options(chat, bot, written(tmp_path), "--compare", change), print)


def test_a_source_is_known_by_all_its_names() -> None:
    row = {
        "source_id": "5", "document_id": "6", "title": "The Kiln", "url": "https://a.test/b/the%20kiln.html?x#y",
        "score": 0.5, "taken": True,
    }  # fmt: skip
    passage = Passage.of(row)
    assert all(
        passage.is_of(name) for name in ("5", "6", "the kiln", "THE KILN.HTML", "https://a.test/b/the%20kiln.html?x")
    )
    assert not passage.is_of("kiln")
    nothing = judged("", None, [passage], 0.6)
    assert (nothing.answerable, nothing.refused) == (False, True)
    assert rates_by_language([])["all"].hit(1) == 0


def test_a_line_ends_where_jsonl_says(tmp_path: Path) -> None:
    said = "One\u2028two\u2029three\x85four?"
    text = "\r\n".join(json.dumps({"question": each}, ensure_ascii=False) for each in (said, "Six?"))
    assert [each.question for each in read_questions(written(tmp_path, text=text))] == [said, "Six?"]
