"""The key file: what is accepted, and what happens when it changes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from structlog.testing import capture_logs

from chat_api.keyring import MAX_KEYS, KeyFileError, KeyRing, read_keys
from tests.chat_api.forge import private_key, public_pem

ROOT = Path(__file__).parents[2]


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Seconds since some moment."""
        return self.seconds


def ours() -> bytes:
    """A good key's PEM."""
    return public_pem(private_key("ours"))


def private_pem() -> bytes:
    """The half that must not be in the file."""
    return private_key("ours").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def edwards() -> bytes:
    """A key of another family."""
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def exponent_3() -> bytes:
    """A key with the exponent that forgers like."""
    return public_pem(rsa.generate_private_key(public_exponent=3, key_size=2048))


def nobodys(number: int) -> bytes:
    """A public key with no private half: its modulus is just an odd number of 2048 bits."""
    key = rsa.RSAPublicNumbers(65537, 2**2047 + 2 * number + 1).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def relabelled() -> bytes:
    """A public key that says to be a certificate."""
    return ours().replace(b"PUBLIC KEY", b"CERTIFICATE")


BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "holds no PEM public key"),
    "text": (lambda: b"hello", "holds no PEM public key"),
    "zeros": (lambda: bytes(100), "holds no PEM public key"),
    "ssh": (lambda: b"ssh-rsa AAAAB3NzaC1yc2E= a@b", "holds no PEM public key"),
    "cut": (lambda: ours()[:-30], "holds no PEM public key"),
    "good and cut": (lambda: ours() + ours()[:-30], "cut short"),
    "broken": (lambda: ours()[:60] + b"!!" + ours()[62:], "can't be read"),
    "private": (private_pem, "private key"),
    "good and private": (lambda: ours() + private_pem(), "private key"),
    "weak": (lambda: public_pem(private_key("weak", 1024)), "1024 bits"),
    "good and weak": (lambda: ours() + public_pem(private_key("weak", 1024)), "1024 bits"),
    "exponent 3": (exponent_3, "exponent"),
    "elliptic": (lambda: public_pem(ec.generate_private_key(ec.SECP256R1())), "not RSA"),
    "edwards": (edwards, "not RSA"),
    "certificate": (relabelled, "not a public key"),
    "too large": (lambda: ours() + b"#" * 70_000, "larger than"),
    "too many": (lambda: b"".join(nobodys(n) for n in range(MAX_KEYS + 1)), "more than 8"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_stops_the_start(name: str, tmp_path: Path) -> None:
    make, sentence = BAD_FILES[name]
    path = tmp_path / "public.pem"
    path.write_bytes(make())
    with pytest.raises(KeyFileError, match=sentence) as error:
        KeyRing(path)
    assert str(path) in str(error.value)
    assert "BEGIN" not in str(error.value)


def test_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        KeyRing(tmp_path / "public.pem")
    with pytest.raises(KeyFileError, match="directory"):
        KeyRing(tmp_path)


def test_several_keys_with_comments_in_any_public_form(tmp_path: Path) -> None:
    third = private_key("third").public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    path = tmp_path / "public.pem"
    path.write_bytes(b"# new\n" + ours().replace(b"\n", b"\r\n") + b"\n# old\n" + third + ours())
    assert [key.public_numbers() for key in read_keys(path)] == [
        private_key(name).public_key().public_numbers() for name in ("ours", "third")
    ]


def test_the_repositorys_key_is_a_good_placeholder() -> None:
    (key,) = read_keys(ROOT / "public.pem")
    assert key.key_size >= 3072


def ring_with_clock(path: Path) -> tuple[KeyRing, Clock]:
    """A ring on a file with our key, and the clock that it lives by."""
    path.write_bytes(ours())
    clock = Clock()
    return KeyRing(path, recheck_s=2, clock=clock), clock


def names_of(ring: KeyRing, *names: str) -> list[str]:
    """Which of these keys are in force."""
    numbers = [key.public_numbers() for key in ring.current()]
    return [name for name in names if private_key(name).public_key().public_numbers() in numbers]


def test_changed_file_is_read_again_when_a_look_is_due(tmp_path: Path) -> None:
    path = tmp_path / "public.pem"
    ring, clock = ring_with_clock(path)
    path.write_bytes(ours() + public_pem(private_key("third")))
    assert names_of(ring, "ours", "third") == ["ours"]
    clock.seconds = 2
    assert names_of(ring, "ours", "third") == ["ours", "third"]
    path.write_bytes(public_pem(private_key("third")))
    clock.seconds = 10
    assert names_of(ring, "ours", "third") == ["third"]


def test_exchanged_file_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    path, new = tmp_path / "public.pem", tmp_path / "new.pem"
    ring, clock = ring_with_clock(path)
    new.write_bytes(public_pem(private_key("third")))
    before = path.stat()
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(path)
    clock.seconds = 2
    assert names_of(ring, "ours", "third") == ["third"]


@pytest.mark.parametrize("name", [*BAD_FILES, "gone"])
def test_file_that_turns_bad_leaves_the_old_keys_in_force_and_is_said_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / "public.pem"
    ring, clock = ring_with_clock(path)
    path.unlink()
    if name in BAD_FILES:
        path.write_bytes(BAD_FILES[name][0]())
    with capture_logs() as lines:
        for _ in range(5):
            clock.seconds += 2
            assert names_of(ring, "ours") == ["ours"]
    assert [(line["event"], line["log_level"]) for line in lines] == [("key_file_refused", "error")]
    assert ring.problem

    path.unlink(missing_ok=True)
    path.write_bytes(public_pem(private_key("third")))
    clock.seconds += 2
    assert names_of(ring, "ours", "third") == ["third"]
    assert ring.problem is None
