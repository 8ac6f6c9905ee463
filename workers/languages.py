"""Owns in which language a text is: by its script, and where several share one by their commonest words."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain

_SAMPLE = 800
_LEAST_WORDS, _LEAST_LETTERS = 8, 12
_MAJORITY = 0.6
_SHARE, _AHEAD = 0.12, 1.4
_WORD = re.compile(r"[^\W\d_]+")
_CODE = re.compile(r"(`{3,})[^\n]*\n.*?\n\1", re.DOTALL)

_SCRIPTS = {
    "Latin": re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+"),
    "Cyrillic": re.compile("[\u0400-\u052f]+"),
    "Arabic": re.compile("[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]+"),
    "Han": re.compile("[\u3400-\u4dbf\u4e00-\u9fff]+"),
    "el": re.compile("[\u0370-\u03ff\u1f00-\u1fff]+"),
    "he": re.compile("[\u0590-\u05ff]+"),
    "hi": re.compile("[\u0900-\u097f]+"),
    "bn": re.compile("[\u0980-\u09ff]+"),
    "ta": re.compile("[\u0b80-\u0bff]+"),
    "te": re.compile("[\u0c00-\u0c7f]+"),
    "th": re.compile("[\u0e00-\u0e7f]+"),
    "my": re.compile("[\u1000-\u109f]+"),
    "ka": re.compile("[\u10a0-\u10ff]+"),
    "hy": re.compile("[\u0530-\u058f]+"),
    "ko": re.compile("[\u1100-\u11ff\uac00-\ud7af]+"),
    "ja": re.compile("[\u3040-\u30ff]+"),
}
_MARKED = {
    "Cyrillic": (("uk", "іїєґ"), ("be", "ў"), ("sr", "ђјљњћџ"), ("ru", "ыэё")),
    "Arabic": (("ur", "ٹڈڑںے"), ("fa", "پچژگ"), ("ar", "ةىأإ")),
}
"""Letters that only one of a script's languages has."""
_COMMON = {
    "en": "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which you we your can will if has all",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie oder sie wir ihr ihre können",
    "fr": "de la le et les des en un une du dans est que pour qui par sur au pas plus ne se ce il sont avec ou aux cette vous nous votre être elle son ont peut",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más pero sus le ha o este sí porque esta son entre está cuando muy sobre también fue",
    "it": "di e il la che in un a per è una sono del non con le si da i della dei al nel alla come più ha gli o ma questo anche delle nella dal sono essere può",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou ser quando muito há nos já está você são pelo",
    "nl": "de het een en van in is dat op te zijn met voor niet aan er om ook als dan maar bij nog uit door over naar heeft worden wordt deze kan je u wij uw of",
    "sv": "och i att det som en på är av för med till den har de inte om ett var men sig från vi så kan när eller du ska vid också hur dig din",
    "da": "og i at det er en til af på for med den som de ikke har der et om var fra kan så vi ved eller du skal men også hvis din dig være",
    "nb": "og i det er på til som en av for at med den har de ikke om et var fra kan så vi ved eller du skal men også hvis din deg være seg",
    "fi": "ja on ei että se oli hän mutta ovat kun niin myös tai kuin sen olla jos joka voi sekä jotka ovat tämä mukaan sitä vain voit kanssa",
    "pl": "i w na z do się nie to że jest o jak ale po od za tak przez jego dla są czy może oraz tym co który która które ma lub jej być",
    "cs": "a v se na je že o s z do to i k ve pro za by ale si po jako jsou od nebo které který jeho která být při může tak také",
    "hu": "a az és hogy nem is egy van meg ez csak de volt ha már mint vagy ki el még kell lehet az amely ami azt között után",
    "ro": "și de în la a cu o pe nu că este un din se care mai pentru sau au fi ce dar prin ale sunt lui acest această dacă după",
    "tr": "ve bir bu da de için ile olarak olan çok daha en gibi sonra kadar ne o ama veya her var mi olduğu değil ise tarafından",
    "vi": "và của là có các được trong cho không với một những này khi đã người để từ đó ra đến như về cũng ở trên theo nhiều",
    "id": "yang dan di dari untuk pada dengan ini dalam tidak adalah itu ke oleh sebagai juga akan atau dapat ada bisa anda telah lebih karena",
    "lt": "ir yra kad į su iš tai ar bet už kaip buvo jo nuo dėl po ne apie taip arba pat per kuris",
    "lv": "un ir ka no ar uz par kas bet tas vai pēc ne arī kā lai bija to pie tika var viņa gada",
    "ru": "и в не на что с по как это но из к у за он от для так же все о его то бы или при был вы мы если",
    "bg": "и на в да от за се че с по са не като е до или при към този която който са има могат само",
    "sr": "и у је да се на за су са од као не по који али или која што би из до",
    "ar": "في من على أن إلى التي عن هذا ما مع الذي كان لا هو هذه كما أو بعد ذلك قد بين كل",
    "fa": "و در به از که این را با است برای آن یک می تا شود بر های شده هم",
    "ur": "کے کی میں ہے اور سے کا کو نے پر یہ ہیں کہ اس بھی",
}
_SPEAKERS: dict[str, list[str]] = {}
"""Word → the languages that have it among their commonest."""
for _code, _words in _COMMON.items():
    for _word in set(_words.split()):
        _SPEAKERS.setdefault(_word, []).append(_code)
_OF_SCRIPT = {
    "Cyrillic": ("ru", "bg", "sr"),
    "Arabic": ("ar", "fa", "ur"),
    "Latin": tuple(code for code, words in _COMMON.items() if words[0] < "\u0250"),
}


def language_of(text: str, declared: str | None = None) -> str | None:
    """The text's language (BCP 47): as `declared` unless it is surely another one; None where nothing says which.

    Only the first 800 characters are looked at; code between fences says nothing.
    """
    found = _detected(_CODE.sub(" ", text[:_SAMPLE]) if "```" in text else text[:_SAMPLE])
    if declared and (found is None or _main(declared) == found or {_main(declared), found} <= {"no", "nb", "nn", "da"}):
        return declared
    return found


def _main(tag: str) -> str:
    return tag.partition("-")[0]


def _detected(text: str) -> str | None:
    if text.isascii():
        words = _WORD.findall(text.lower())
        return _by_words(words, _OF_SCRIPT["Latin"]) if sum(map(len, words)) >= _LEAST_LETTERS else None
    script = _script(text)
    if script is None or script not in _OF_SCRIPT:
        return script
    for code, letters in _MARKED.get(script, ()):
        if sum(text.count(letter) for letter in letters) * 100 >= len(text):
            return code
    return _by_words(_WORD.findall(text.casefold()), _OF_SCRIPT[script])


def _by_words(words: Sequence[str], codes: Collection[str]) -> str | None:
    if len(words) < _LEAST_WORDS:
        return None
    scores = Counter(chain.from_iterable(_SPEAKERS[word] for word in words if word in _SPEAKERS))
    best, most, second = None, 0, 0
    for code, score in scores.items():
        if code in codes and score > most:
            best, most, second = code, score, most
        elif code in codes:
            second = max(second, score)
    return best if most >= _SHARE * len(words) and most >= _AHEAD * second else None


def _script(text: str) -> str | None:
    """The script of most letters, or the language that alone is written in it."""
    counts = {name: len("".join(letters.findall(text))) for name, letters in _SCRIPTS.items()}
    total = sum(counts.values())
    if total < _LEAST_LETTERS:
        return None
    if counts["ja"] * 10 >= total:  # Japanese is written with Chinese characters too
        return "ja"
    script, most = max(counts.items(), key=lambda item: item[1])
    if most < _MAJORITY * total:
        return None
    return "zh" if script == "Han" else script
