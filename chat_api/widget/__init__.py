"""The embeddable widget: small ES modules, joined into the one script that `GET /widget.js` serves."""

import re
from functools import cache
from pathlib import Path

_PARTS = ("texts", "style", "dom", "markdown", "connection", "turn", "session", "widget")
_IMPORT = re.compile(r"^import [^;]*;\n+", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |class |const |function )", re.MULTILINE)


@cache
def widget_script() -> str:
    """The whole widget as one classic script (UTF-8, `text/javascript`): every part, after those it imports, in one scope.

    A classic script rather than a module, because only there `document.currentScript` tells it its `data-` attributes.
    """
    parts = (Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8") for name in _PARTS)
    body = "\n".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)
    return f'(() => {{\n"use strict";\n{body}}})();\n'
