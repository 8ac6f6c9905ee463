"""What any client shows of an answer's frames: the reference for the vectors in vectors.json."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))
"""`{name, frames, shows}`: frames as a client receives them, and what it shows then."""


@dataclass
class Shown:
    """An answer on the screen."""

    text: str = ""
    sources: list[int] = field(default_factory=list)
    citations: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    error: str | None = None
    seq: int = 0

    def take(self, frame: dict[str, Any]) -> None:
        """Shows a frame; one that was shown already, or is of no known type, changes nothing."""
        if frame.get("seq", self.seq + 1) <= self.seq:
            return
        self.seq = frame.get("seq", self.seq)
        match frame["type"]:
            case "sources":
                self.text, self.sources = "", [source["n"] for source in frame["sources"]]
            case "delta":
                self.text += frame["text"]
            case "done":
                self.text, self.citations = frame["text"], frame["citations"]
                self.finish_reason = frame["finish_reason"]
            case "error":
                self.error = frame["code"]


def text_of(frames: list[dict[str, Any]]) -> str:
    """The text that the frames before the last one tell."""
    shown = Shown()
    for frame in frames[:-1]:
        shown.take(frame)
    return shown.text
