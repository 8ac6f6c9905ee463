"""Makes tokens, good and bad: `Forge` signs whatever it is told to."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MISSING = object()
RS256_HEADER = b'{"alg":"RS256","typ":"JWT"}'
ORG = "5b0a5a52-6b4f-4f0b-9c1e-2f6f6a2d9b01"
BOT = "c1c2a0de-7a31-4a52-8a35-0f6a51a4be02"
SCOPES = "training:write training:read chat"


@cache
def private_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The key of that name, the same in the whole test run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """The public half, as the key file holds it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def b64(raw: bytes) -> str:
    """Canonical base64url."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def rsa_signature(signing_input: str, key: rsa.RSAPrivateKey, algorithm: HashAlgorithm | None = None) -> bytes:
    """RSASSA-PKCS1-v1_5, with SHA-256 unless told otherwise."""
    return key.sign(signing_input.encode(), padding.PKCS1v15(), algorithm or SHA256())


@dataclass(frozen=True)
class Forge:
    """Makes tokens, good and bad; `ours` is the key that the service knows, `theirs` an attacker's."""

    now: int = field(default_factory=lambda: int(time.time()))

    @property
    def ours(self) -> rsa.RSAPrivateKey:
        """The key that the service knows."""
        return private_key("ours")

    @property
    def theirs(self) -> rsa.RSAPrivateKey:
        """A key that the service does not know."""
        return private_key("theirs")

    def claims(self, **changed: object) -> dict[str, Any]:
        """Good claims with some changed, or left out (MISSING)."""
        good: dict[str, Any] = {
            "sub": "user-1",
            "org_id": ORG,
            "bot_id": BOT,
            "scope": SCOPES,
            "iat": self.now - 10,
            "exp": self.now + 600,
        }
        return {name: value for name, value in (good | changed).items() if value is not MISSING}

    def token(self, **changed: object) -> str:
        """A well-made token with these claims, signed by our key."""
        return self.signed(json.dumps(self.claims(**changed)).encode())

    def signed(self, payload: bytes, header: bytes = RS256_HEADER, key: rsa.RSAPrivateKey | None = None) -> str:
        """A token of these very bytes, with an RS256 signature."""
        signing_input = f"{b64(header)}.{b64(payload)}"
        return f"{signing_input}.{b64(rsa_signature(signing_input, key or self.ours))}"

    def headed(self, key: rsa.RSAPrivateKey | None = None, **header: object) -> str:
        """A token whose header has these fields besides or instead of alg and typ."""
        fields = {"alg": "RS256", "typ": "JWT"} | header
        raw = json.dumps({name: value for name, value in fields.items() if value is not MISSING}).encode()
        return self.signed(json.dumps(self.claims()).encode(), raw, key)

    def input_for(self, alg: str) -> str:
        """What is signed when the header says `alg`."""
        return f"{b64(json.dumps({'alg': alg, 'typ': 'JWT'}).encode())}.{b64(json.dumps(self.claims()).encode())}"

    def mac(self, alg: str, digest: str, secret: bytes) -> str:
        """An HMAC token, as for the classic confusion of the public key with a secret."""
        signing_input = self.input_for(alg)
        return f"{signing_input}.{b64(hmac.digest(secret, signing_input.encode(), digest))}"

    def raw_json(self, old: str, new: str) -> str:
        """A signed token whose payload's text was changed."""
        text = json.dumps(self.claims())
        assert old in text
        return self.signed(text.replace(old, new, 1).encode(errors="surrogatepass"))

    def reheaded(self, text: str) -> str:
        """A signed token with this header text."""
        return self.signed(json.dumps(self.claims()).encode(), text.encode())


Forgery = Callable[[Forge], str]
"""Makes one bad token."""
