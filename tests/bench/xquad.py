"""XQuAD as it lies in the folder XQUAD_DIR: paragraphs of Wikipedia in six languages, and questions about them."""

import json
import os
import re
from pathlib import Path

LANGUAGES = ("en", "de", "es", "ru", "ar", "zh")
_ENDS = re.compile(r"(?<=[.!?؟])\s+|(?<=[。！？])")


def read_xquad(language: str) -> tuple[list[str], list[str], list[int]]:
    """The paragraphs, the questions, and which paragraph each question stands under."""
    path = Path(os.environ["XQUAD_DIR"]) / f"xquad.{language}.json"
    paragraphs: list[str] = []
    questions, right = [], []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                questions.append(asked["question"])
                right.append(len(paragraphs))
            paragraphs.append(paragraph["context"])
    return paragraphs, questions, right


def sentences_of(paragraphs: list[str]) -> list[str]:
    """The paragraphs' sentences, roughly."""
    return [one for paragraph in paragraphs for one in _ENDS.split(paragraph) if one.strip()]
