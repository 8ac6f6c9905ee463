"""Owns what a piece of code is written in, as its page or file says: only names that are known, never a guess."""

import re
from collections.abc import Iterator
from typing import Any

_NAMES = (
    "abap actionscript ada apex applescript asm assembly awk bash basic batch bat bibtex c c++ c# cfg clojure cmake cobol"
    " coffeescript console cpp crystal csharp css csv cuda cypher d dart diff docker dockerfile dos dotenv edn elixir elm"
    " erlang fish fortran fsharp gdscript gherkin glsl go golang gradle graphql groovy handlebars haskell hcl hlsl html http"
    " ini ipython ipython3 java javascript jinja jinja2 jq js json json5 jsonc jsx julia kotlin kql latex less liquid lisp"
    " llvm log lua make makefile markdown matlab md mdx mermaid mysql nginx nim nix objc objective-c ocaml pascal patch perl"
    " pgsql php plpgsql plsql postgresql powershell prisma prolog promql properties proto protobuf ps1 puppet pycon py py3"
    " python python3 pytb r rb reason regex rego rest rst ruby rust sass scala scheme scss sh shell shell-session sol"
    " solidity sparql sql stata svelte svg swift systemverilog tcl terraform tex toml ts tsql tsx twig typescript vb vbnet"
    " vba verilog vhdl vim vue wasm wgsl xml yaml yml zig zsh"
)
_KNOWN = frozenset(_NAMES.split())
_PREFIX = re.compile(r"(?:language|lang|highlight-source|highlight|sourcecode|brush)[-:]+(?=\w)")
_HIGHLIGHTERS = frozenset({"hljs", "sourcecode", "prettyprint", "highlight"})
"""Classes beside which a highlighter names the language without a prefix."""
_ATTRIBUTES = ("data-lang", "data-language", "lang")
_WRAPPERS = 3
_WIDEST = 2


def named_language(name: str | None) -> str:
    """The language in lower case, if the name is one's; else nothing."""
    known = (name or "").strip().strip("{}").lstrip(".").lower()
    return known if known in _KNOWN else ""


def language_of_code(pre: Any) -> str:
    """What an element's code is written in, by its own marks, those of the `code` in it, or of what wraps it alone."""
    inner = next(pre.iterchildren("code"), None)
    return next(filter(None, map(_marked, (*([] if inner is None else [inner]), pre, *_wrappers(pre)))), "")


def _wrappers(pre: Any) -> Iterator[Any]:
    """The elements around it that hold little else, such as a highlighter's: a button, a caption."""
    around = pre.getparent()
    for _ in range(_WRAPPERS):
        if around is None or around.tag not in {"div", "figure", "td"} or len(around) > _WIDEST:
            return
        yield around
        around = around.getparent()


def _marked(element: Any) -> str:
    """The language that an element names: in an attribute, or in a class behind a prefix."""
    classes = (element.get("class") or "").lower().replace("brush: ", "brush:").split()
    names = [element.get(name) for name in _ATTRIBUTES]
    bare = not _HIGHLIGHTERS.isdisjoint(classes)
    names += [_PREFIX.sub("", one, count=1) for one in classes if bare or _PREFIX.match(one)]
    return next(filter(None, (named_language(name and name.rstrip(";")) for name in names)), "")
