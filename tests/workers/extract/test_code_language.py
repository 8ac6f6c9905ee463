"""What code is written in, as pages and files mark it: kept with the block, known names alone."""

import pytest

from tests.workers.extract.files import page, read, texts
from workers.documents import Document
from workers.extract.dispatch import extract

FILLER = "<p>" + "The library reads what it is given, and says what it has found in it, line by line. " * 6 + "</p>"


def languages(document: Document) -> list[str]:
    """Of the code blocks."""
    return [block.language for block in document.blocks if block.kind == "code"]


@pytest.mark.parametrize(("markup", "language"), [
    ('<pre><code class="language-python">x = 1</code></pre>', "python"),
    ('<pre class="lang-JS prettyprint"><code>x = 1</code></pre>', "js"),
    ('<div class="highlight-python notranslate"><div class="highlight"><pre>x = 1</pre></div></div>', "python"),
    ('<div class="highlight highlight-source-shell"><pre>x = 1</pre></div>', "shell"),
    ('<div class="highlight"><pre><code class="language-go" data-lang="go">x = 1</code></pre></div>', "go"),
    ('<pre lang="c++"><code>x = 1</code></pre>', "c++"),
    ('<pre class="brush: php; gutter: false">x = 1</pre>', "php"),
    ('<pre><code class="hljs rust">x = 1</code></pre>', "rust"),
    ('<figure><figcaption>One</figcaption><pre data-language="toml">x = 1</pre></figure>', "toml"),
    ("<pre>x = 1</pre>", ""), ('<pre lang="en">x = 1</pre>', ""), ('<pre class="python">x = 1</pre>', ""),
    ('<div class="highlight-default notranslate"><div class="highlight"><pre>x = 1</pre></div></div>', ""),
    ('<pre><code class="language-ignore-all-rules">x = 1</code></pre>', ""),
    ('<div class="language-python"><p>One</p><p>Two</p><pre>x = 1</pre></div>', ""),
])  # fmt: skip
def test_a_page_s_code_keeps_its_language(markup: str, language: str) -> None:
    document = extract(page(f"<html lang='en'><body><main>{FILLER}{markup}{FILLER}</main></body></html>"))
    assert (texts(document, "code"), languages(document)) == (["x = 1"], [language])


def test_a_fence_s_code_keeps_its_language() -> None:
    document = read(
        b"# Use\n\n```Python title=a.py\nx = 1\n```\n\n~~~\ny = 2\n~~~\n\n```{.yaml}\nz: 3\n```\n\n    w = 4\n"
    )
    assert languages(document) == ["python", "", "yaml", ""]
