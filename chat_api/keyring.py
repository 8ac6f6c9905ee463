"""The key file: RSA public keys in PEM form, read again when the file changes, so that keys can be rotated."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

RECHECK_S = 2.0
MAX_KEYS = 8
MAX_FILE_BYTES = 65_536
MIN_KEY_BITS, MAX_KEY_BITS = 2048, 8192
MIN_EXPONENT = 65_537

_BEGIN = b"-----BEGIN "
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
_PUBLIC = {b"PUBLIC KEY", b"RSA PUBLIC KEY"}
log = structlog.get_logger(__name__)


class KeyFileError(ValueError):
    """The key file can't be used; the message says why, in one sentence."""


class KeyRing:
    """The keys in force. A file that turns bad at run time leaves them in force, and is logged once per change."""

    def __init__(
        self, path: str | Path, *, recheck_s: float = RECHECK_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Reads the file now and, on use, when it changed; it is looked at every `recheck_s` seconds at most.

        Raises KeyFileError when it is missing, empty, broken, or holds a key that is weak or not an RSA public key.
        """
        self._path, self._recheck_s, self._clock = Path(path), recheck_s, clock
        self._stamp = _stamp(self._path)
        self._keys = read_keys(self._path)
        self._check_at = clock() + recheck_s
        self.problem: str | None = None

    def current(self) -> tuple[RSAPublicKey, ...]:
        """The keys in force, after a look at the file when one is due."""
        if self._clock() >= self._check_at:
            self._check_at = self._clock() + self._recheck_s
            # The stamp comes first: a change during the reading is then seen by the next look.
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                self._reread()
        return self._keys

    def _reread(self) -> None:
        try:
            self._keys, self.problem = read_keys(self._path), None
        except KeyFileError as error:
            self.problem = str(error)
            log.error("key_file_refused", problem=self.problem, keys_in_force=len(self._keys))  # noqa: TRY400
        else:
            log.info("key_file_read", keys_in_force=len(self._keys))


def read_keys(path: Path) -> tuple[RSAPublicKey, ...]:
    """All keys of a PEM file. Raises KeyFileError naming the file and what is wrong with it."""
    try:
        with path.open("rb") as file:
            pem = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"the key file {path} can't be read: {error.strerror}") from None
    try:
        return _parse(pem)
    except KeyFileError as error:
        raise KeyFileError(f"the key file {path} {error}") from None


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _parse(pem: bytes) -> tuple[RSAPublicKey, ...]:
    if len(pem) > MAX_FILE_BYTES:
        raise KeyFileError(f"is larger than {MAX_FILE_BYTES} bytes")
    blocks = list(_BLOCK.finditer(pem))
    if not blocks:
        raise KeyFileError("holds no PEM public key")
    if len(blocks) != pem.count(_BEGIN):
        raise KeyFileError("holds a PEM block that is cut short")
    keys = {key.public_numbers(): key for key in (_key(block[0], block[1]) for block in blocks)}
    if len(keys) > MAX_KEYS:
        raise KeyFileError(f"holds more than {MAX_KEYS} keys")
    return tuple(keys.values())


def _key(block: bytes, label: bytes) -> RSAPublicKey:
    if b"PRIVATE" in label:
        raise KeyFileError("holds a private key, which belongs to whoever signs tokens alone")
    if label not in _PUBLIC:
        raise KeyFileError("holds something that is not a public key")
    try:
        key = load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError("holds a key that can't be read") from None
    if not isinstance(key, RSAPublicKey):
        raise KeyFileError("holds a key that is not RSA")
    if not MIN_KEY_BITS <= key.key_size <= MAX_KEY_BITS:
        raise KeyFileError(f"holds a key of {key.key_size} bits; {MIN_KEY_BITS} to {MAX_KEY_BITS} are accepted")
    if key.public_numbers().e < MIN_EXPONENT:
        raise KeyFileError(f"holds a key with an exponent under {MIN_EXPONENT}")
    return key
