"""Words and numbers of questions, answers and passages, in any script, compared without a language's rules. Pure."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

STEM = 5
"""Letters of a word that tell it from others, whatever its ending."""
_WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_NUMBER = re.compile(r"\d+(?:[.,'’\u00a0\u202f ]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,:]\d+)*")
_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_THOUSANDS = re.compile(r"\d{1,3}(?:[.,'’ ]\d{3})+")
_FULL_HOUR = re.compile(r"(\d{1,2}):00")
_SCALES = {3: r"\s?(?:thousand|tausend|tsd\b)", 6: r"\s?(?:milli?[oó]n|miljoen|mio\b|mln\b)"}
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
EDGES = " \t\n?!.,;:…¿¡？！。،؟\"'“”„«»‘’"

# The short words that every text of a language has, and few texts of another.
_COMMON = {
    "en": "the of and to is are was with for this that you your it be by from have not can will or if at",
    "de": "der die das und ist sind war mit für den dem ein eine einen nicht von zu im wird werden bei auf sie oder bis",
    "fr": "le les des et est sont était avec pour dans une vous votre ce cette pas ne du au aux par sur ou il elle",
    "es": "el los las y es son con para una que del al no se por su sus más como pero este esta o en",
    "it": "il gli di e è sono con per una che del della non si da nel alla più come questo questa o le",
    "pt": "os as e é são com para uma que do da dos das não se por seu sua mais como mas este esta ou em",
    "nl": "de het een en is zijn was met voor van niet op te dat die wordt worden bij of uw naar aan tot",
    "pl": "i w na z do nie jest są to się że jak od po dla przez oraz lub ale czy",
    "sv": "och att är det en ett som på av för med den inte till har kan eller från vid om",
    "tr": "ve bir bu için ile da de değil olarak daha gibi çok var ne veya her",
    "ru": "и в на с не что это по для от до как из или за при его мы вы если",
}
_LANGUAGES: dict[str, list[str]] = {}
for _name, _words in _COMMON.items():
    for _word in _words.split():
        _LANGUAGES.setdefault(_word, []).append(_name)


def normalised(question: str) -> str:
    """The question as two askings of the same one share it: case, width, spaces and the marks around it do not count."""
    return " ".join(unicodedata.normalize("NFKC", question).casefold().split()).strip(EDGES)


def about_tokens(text: str) -> int:
    """About how many tokens a text is, whatever its script."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


def words_of(text: str) -> list[str]:
    """The words in lower case, in their order; where a script has no spaces, overlapping pairs of characters."""
    return [part for word in _WORD.findall(text.casefold()) for part in _parts(word)]


def _parts(word: str) -> Iterator[str]:
    if not _UNSPACED.search(word):
        yield word
        return
    for run in re.split(f"({_UNSPACED.pattern})", word):
        if _UNSPACED.fullmatch(run):
            yield from (run[start : start + 2] for start in range(max(1, len(run) - 1)))
        elif run:
            yield run


def stems_of(text: str) -> frozenset[str]:
    """The beginnings of the words that carry meaning: the longer ones, and pairs of an unspaced script."""
    return frozenset(word[:STEM] for word in words_of(text) if carries_meaning(word))


def carries_meaning(word: str) -> bool:
    """Whether a word has more than three letters, or is of a script where two are much."""
    return len(word) > 3 or any(ord(char) >= 0x0E00 for char in word)


def numbers_in(text: str) -> list[tuple[str, frozenset[str]]]:
    """Each number as it is written, and what it may mean: `1.250` is 1250 or 1.25, `1.5 million` also 1500000."""
    text = unicodedata.normalize("NFKC", text)
    return [(found[0], _readings(found[0]) | _scaled(found)) for found in _NUMBER.finditer(text)]


def _scaled(found: re.Match[str]) -> frozenset[str]:
    """What a number means with the word behind it."""
    for zeros, word in _SCALES.items():
        if re.compile(word, re.IGNORECASE).match(found.string, found.end()):
            whole, _, part = found[0].replace(",", ".").partition(".")
            if len(part) <= zeros and not re.search(r"\D", whole + part):
                return frozenset({_plain(f"{whole}{part.ljust(zeros, '0')}")})
    return frozenset()


def _readings(number: str) -> frozenset[str]:
    if date := _DATE.fullmatch(number):
        return frozenset({".".join(str(int(part)) for part in date.groups())})
    readings = {_decimal(number)}
    if _THOUSANDS.fullmatch(number):
        readings.add(_plain(re.sub(r"\D", "", number)))
    if on_the_hour := _FULL_HOUR.fullmatch(number):
        readings.add(str(int(on_the_hour[1])))
    return frozenset(readings)


def _decimal(number: str) -> str:
    """The number if its last dot or comma begins a fraction; as it is where it has none, or is a time."""
    last = max(number.rfind("."), number.rfind(","))
    if last < 0 or ":" in number:
        return _plain(number)
    whole, fraction = _plain(re.sub(r"\D", "", number[:last])), number[last + 1 :].rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _plain(digits: str) -> str:
    return digits.lstrip("0") or "0"


def differ_in_language(one: str, two: str) -> bool:
    """Whether two texts are surely in different languages: by their common words, or by their scripts."""
    first, second = commonest_language(one), commonest_language(two)
    if first and second:
        return first != second
    return bool(_UNSPACED.search(one)) != bool(_UNSPACED.search(two))


def commonest_language(text: str) -> str | None:
    """The language whose common words the text has the most of; None where two have as many."""
    counts = Counter(name for word in words_of(text) for name in _LANGUAGES.get(word, ()))
    (first, most), (_, second) = [*counts.most_common(2), ("", 0), ("", 0)][:2]
    return first if most > second else None
