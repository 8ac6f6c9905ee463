"""Tells text that speaks to a language model from text for people, so that a page's owner can be warned. Pure."""

import re

_ANY = r"[^.!?\n]{0,60}?"
_PATTERNS = (
    # Take back what was said before, in several languages.
    rf"\b(?:ignore|disregard|forget|override|bypass)\b{_ANY}\b(?:instructions?|prompts?|rules?|guidelines|directives|(?:previous|prior|above) (?:text|messages?))\b",
    rf"\b(?:ignorier\w*|missacht\w*|vergiss|vergesst)\b{_ANY}\b(?:anweisung\w*|instruktion\w*|regeln|vorgaben|prompt)\b",
    rf"\b(?:ignore[rz]?|oublie[rz]?)\b{_ANY}\b(?:instructions?|consignes|règles)\b",
    rf"\b(?:ignora[rd]?|olvida|haz caso omiso)\b{_ANY}\b(?:instrucciones|reglas|indicaciones)\b",
    rf"\b(?:ignora|dimentica)\b{_ANY}\b(?:istruzioni|regole)\b",
    rf"\b(?:negeer|vergeet)\b{_ANY}\b(?:instructies|regels|aanwijzingen)\b",
    rf"(?:игнорируй|забудь)\w*{_ANY}(?:инструкци|правил|указани)",
    r"忽略.{0,20}(?:指令|指示|提示|说明|規則|规则)|(?:指示|命令)を無視|以前的(?:指令|指示)",
    # Give it another role, or speak as its maker.
    r"\byou are (?:now|no longer)\b.{0,40}\b(?:assistant|ai|bot|model|gpt|dan|mode|bound|restricted)\b",
    r"\b(?:act|behave|respond|answer) as (?:if you (?:are|were)|an? (?:ai|unrestricted|different) )",
    r"\b(?:developer|debug|god|jailbreak|unrestricted|dan) mode\b|\bdo anything now\b",
    r"\b(?:as an?|you,? the|dear|attention|note to|instructions? (?:to|for)) (?:ai|llms?|language models?|chatbots?|ai (?:assistants?|models?|agents?))\b",
    r"(?im)^\W{0,4}(?:system|assistant|developer)(?: (?:message|prompt|note|override|instruction))?\s*:",
    r"<\|?\s*/?\s*(?:im_start|im_end|system|endoftext|assistant)\s*\|?>|\[/?INST\]|<<\s*/?SYS\s*>>|###\s*(?:system|instruction)s?\b",
    # Fish for what it was told, or have it send something away.
    rf"\b(?:reveal|print|repeat|show|output|leak|tell)\b{_ANY}\b(?:system|hidden|initial|secret|original) (?:prompt|instructions?|message)\b",
    rf"\b(?:append|include|insert|embed|add|render)\b{_ANY}\b(?:image|link|url|markdown)\b[^!?\n]{{0,80}}?\b(?:conversation|question|user'?s?|visitor'?s?|answer|data|history|email)\b",
    rf"\b(?:send|post|exfiltrate|forward|submit)\b{_ANY}\b(?:conversation|chat history|user'?s? (?:data|question|email)|system prompt)\b",
    rf"\b(?:do not|don't|never) (?:tell|inform|mention|reveal)\b{_ANY}\b(?:user|visitor|customer|anyone)\b",
    rf"\b(?:in|with|to) (?:your|every|each|all) (?:answers?|repl(?:y|ies)|responses?)\b{_ANY}\b(?:always|must|include|add|say|recommend|link)\b|\balways (?:answer|reply|respond|recommend|include|end)\b{_ANY}\b(?:with|that|this)\b",
)
_INSTRUCTION = re.compile(
    "|".join(f"(?:{pattern.removeprefix('(?im)')})" for pattern in _PATTERNS), re.IGNORECASE | re.MULTILINE
)
SHOWN_CHARS = 200


def instruction_like(text: str) -> str | None:
    """The first words of a text that read as if they spoke to a language model, in one line; None where none do.

    A page about such tricks has them too: it is a reason to look, not to leave the page out.
    """
    found = _INSTRUCTION.search(text)
    return " ".join(found[0].split())[:SHOWN_CHARS] if found else None
