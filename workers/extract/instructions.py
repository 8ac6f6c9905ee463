"""Tells text that speaks to a language model from text for people, so that a page's owner can be warned. Pure."""

import re

_ANY = r"[^.!?\n]{0,60}?"
# Each pattern with groups of words, of each of which a text that it matches has one: most texts are judged by these
# alone, fifty times faster. All in lower case.
_PATTERNS = (
    # Take back what was said before, in several languages.
    (
        rf"\b(?:ignore|disregard|forget|override|bypass)\b{_ANY}\b(?:instructions?|prompts?|rules?|guidelines|directives|(?:previous|prior|above) (?:text|messages?))\b",
        "ignore|disregard|forget|override|bypass",
        "instruction|prompt|rule|guideline|directive|text|message",
    ),
    (
        rf"\b(?:ignorier\w*|missacht\w*|vergiss|vergesst)\b{_ANY}\b(?:anweisung\w*|instruktion\w*|regeln|vorgaben|prompt)\b",
        "ignorier|missacht|vergiss|vergesst",
    ),
    (
        rf"\b(?:ignore[rz]?|oublie[rz]?)\b{_ANY}\b(?:instructions?|consignes|règles)\b",
        "ignore|oublie",
        "instruction|consignes|règles",
    ),
    (
        rf"\b(?:ignora[rd]?|olvida|haz caso omiso)\b{_ANY}\b(?:instrucciones|reglas|indicaciones)\b",
        "instrucciones|reglas|indicaciones",
        "ignora|olvida|haz caso omiso",
    ),
    (rf"\b(?:ignora|dimentica)\b{_ANY}\b(?:istruzioni|regole)\b", "istruzioni|regole", "ignora|dimentica"),
    (
        rf"\b(?:negeer|vergeet)\b{_ANY}\b(?:instructies|regels|aanwijzingen)\b",
        "instructies|regels|aanwijzingen",
        "negeer|vergeet",
    ),
    (rf"(?:игнорируй|забудь)\w*{_ANY}(?:инструкци|правил|указани)", "игнорируй|забудь"),
    (r"忽略.{0,20}(?:指令|指示|提示|说明|規則|规则)|(?:指示|命令)を無視|以前的(?:指令|指示)", "忽略|を無視|以前的"),
    # Give it another role, or speak as its maker.
    (
        r"\byou are (?:now|no longer)\b.{0,40}\b(?:assistant|ai|bot|model|gpt|dan|mode|bound|restricted)\b",
        "you are now|you are no longer",
    ),
    (
        r"\b(?:act|behave|respond|answer) as (?:if you (?:are|were)|an? (?:ai|unrestricted|different) )",
        "act as |behave as |respond as |answer as ",
    ),
    (
        r"\b(?:developer|debug|god|jailbreak|unrestricted|dan) mode\b|\bdo anything now\b",
        "developer mode|debug mode|god mode|jailbreak mode|unrestricted mode|dan mode|do anything now",
    ),
    (
        r"\b(?:as an?|you,? the|dear|attention|note to|instructions? (?:to|for)) (?:ai|llms?|language models?|chatbots?|ai (?:assistants?|models?|agents?))\b",
        " ai| llm| language model| chatbot",
        "as a|you the|you, the|dear|attention|note to|instruction",
    ),
    (
        r"^\W{0,4}(?:system|assistant|developer)(?: (?:message|prompt|note|override|instruction))?\s*:",
        "system|assistant|developer",
        ":",
    ),
    (
        r"<\|?\s*/?\s*(?:im_start|im_end|system|endoftext|assistant)\s*\|?>|\[/?inst\]|<<\s*/?sys\s*>>|###\s*(?:system|instruction)s?\b",
        "<|[inst]|[/inst]|###",
        "im_start|im_end|sys|endoftext|assistant|inst",
    ),
    # Fish for what it was told, or have it send something away.
    (
        rf"\b(?:reveal|print|repeat|show|output|leak|tell)\b{_ANY}\b(?:system|hidden|initial|secret|original) (?:prompt|instructions?|message)\b",
        " prompt| instruction| message",
        "system |hidden |initial |secret |original ",
        "reveal|print|repeat|show|output|leak|tell",
    ),
    (
        rf"\b(?:append|include|insert|embed|add|render)\b{_ANY}\b(?:image|link|url|markdown)\b[^!?\n]{{0,80}}?\b(?:conversation|question|user'?s?|visitor'?s?|answer|data|history|email)\b",
        "image|link|url|markdown",
        "append|include|insert|embed|add|render",
        "conversation|question|user|visitor|answer|data|history|email",
    ),
    (
        rf"\b(?:send|post|exfiltrate|forward|submit)\b{_ANY}\b(?:conversation|chat history|user'?s? (?:data|question|email)|system prompt)\b",
        "conversation|chat history|user|system prompt",
        "send|post|exfiltrate|forward|submit",
    ),
    (
        rf"\b(?:do not|don't|never) (?:tell|inform|mention|reveal)\b{_ANY}\b(?:user|visitor|customer|anyone)\b",
        "do not |don't |never ",
        " tell| inform| mention| reveal",
        "user|visitor|customer|anyone",
    ),
    (
        rf"\b(?:in|with|to) (?:your|every|each|all) (?:answers?|repl(?:y|ies)|responses?)\b{_ANY}\b(?:always|must|include|add|say|recommend|link)\b",
        "your |every |each |all ",
        " answer| repl| response",
        "always|must|include|add|say|recommend|link",
    ),
    (
        rf"\balways (?:answer|reply|respond|recommend|include|end)\b{_ANY}\b(?:with|that|this)\b",
        "always answer|always reply|always respond|always recommend|always include|always end",
    ),
)
_RULES = [(re.compile(pattern, re.MULTILINE), [group.split("|") for group in groups]) for pattern, *groups in _PATTERNS]
_ODD_LETTERS = {"\u0130": "i", "\u0131": "i", "\u017f": "s", "\u212a": "k"}
"""Letters that are ASCII ones in another case; the first of them is two characters in lower case."""
SHOWN_CHARS = 200


def instruction_like(text: str) -> str | None:
    """The first words of a text that read as if they spoke to a language model, in one line; None where none do.

    A page about such tricks has them too: it is a reason to look, not to leave the page out.
    """
    plain = _plain(text)
    found = [match for pattern, groups in _RULES if _has_all(plain, groups) and (match := pattern.search(plain))]
    if not found:
        return None
    first = min(found, key=re.Match.start)
    return " ".join(text[slice(*first.span())].split())[:SHOWN_CHARS]


def _plain(text: str) -> str:
    """The text in lower case, as long as it was."""
    if not text.isascii():
        for odd, letter in _ODD_LETTERS.items():
            text = text.replace(odd, letter)
    return text.lower()


def _has_all(text: str, groups: list[list[str]]) -> bool:
    return all(any(word in text for word in group) for group in groups)
