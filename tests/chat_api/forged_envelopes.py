"""Tokens whose envelope is wrong: shape, spelling, signature, algorithm, header."""

import base64
import json

from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm

from tests.chat_api.forge import MISSING, RS256_HEADER, Forge, Forgery, b64, public_pem, rsa_signature


def _parts(forge: Forge) -> tuple[str, str, str]:
    header, payload, signature = forge.token().split(".")
    return header, payload, signature


def _padded(part: str) -> str:
    return part + "=" * (-len(part) % 4 or 4)


def _loose_bits(part: str) -> str:
    """The same bytes in another spelling: the last character's unused bits are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(part) % 4 in {2, 3}, "this part has no unused bits"
    return part[:-1] + alphabet[alphabet.index(part[-1]) + 1]


def _ragged(forge: Forge) -> str:
    """A signed token whose payload is spelt with loose bits, signed in that spelling."""
    payload = json.dumps(forge.claims()).encode()
    payload += b" " * (1 - len(payload) % 3 if len(payload) % 3 <= 1 else 2)
    signing_input = f"{b64(RS256_HEADER)}.{_loose_bits(b64(payload))}"
    return f"{signing_input}.{b64(rsa_signature(signing_input, forge.ours))}"


def _ragged_header(forge: Forge) -> str:
    header = b'{"alg":"RS256","typ":"JWT"} '
    signing_input = f"{_loose_bits(b64(header))}.{b64(json.dumps(forge.claims()).encode())}"
    return f"{signing_input}.{b64(rsa_signature(signing_input, forge.ours))}"


def _padded_and_signed(forge: Forge, which: int) -> str:
    header = b'{"alg":"RS256","typ":"JWT"} '
    parts = [b64(header), b64(json.dumps(forge.claims()).encode())]
    parts[which] = _padded(parts[which])
    signing_input = ".".join(parts)
    return f"{signing_input}.{b64(rsa_signature(signing_input, forge.ours))}"


def _resigned(forge: Forge, alg: str, algorithm: HashAlgorithm) -> str:
    signing_input = forge.input_for(alg)
    return f"{signing_input}.{b64(rsa_signature(signing_input, forge.ours, algorithm))}"


def _pss(forge: Forge, alg: str) -> str:
    signing_input = forge.input_for(alg)
    pss = padding.PSS(padding.MGF1(SHA256()), 32)
    return f"{signing_input}.{b64(forge.ours.sign(signing_input.encode(), pss, SHA256()))}"


def _elliptic(forge: Forge) -> str:
    signing_input = forge.input_for("ES256")
    key = ec.generate_private_key(ec.SECP256R1())
    return f"{signing_input}.{b64(key.sign(signing_input.encode(), ec.ECDSA(SHA256())))}"


def _own_jwk(forge: Forge) -> str:
    numbers = forge.theirs.public_key().public_numbers()
    jwk = {"kty": "RSA", "n": b64(numbers.n.to_bytes(256, "big")), "e": "AQAB"}
    return forge.headed(forge.theirs, jwk=jwk)


def _detached(forge: Forge) -> str:
    header = json.dumps({"alg": "RS256", "b64": False, "crit": ["b64"]}).encode()
    payload = json.dumps(forge.claims()).encode()
    signature = forge.ours.sign(b64(header).encode() + b"." + payload, padding.PKCS1v15(), SHA256())
    return f"{b64(header)}..{b64(signature)}"


def _flipped(forge: Forge) -> str:
    header, payload, signature = _parts(forge)
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[7] ^= 1
    return f"{header}.{payload}.{b64(bytes(raw))}"


def _other_payload(forge: Forge) -> str:
    header, _, signature = _parts(forge)
    return f"{header}.{b64(json.dumps(forge.claims(sub='admin')).encode())}.{signature}"


def _with_signature(forge: Forge, raw: bytes) -> str:
    header, payload, _ = _parts(forge)
    return f"{header}.{payload}.{b64(raw)}"


def _signature(forge: Forge) -> bytes:
    return base64.urlsafe_b64decode(_parts(forge)[2] + "==")


def _flattened(forge: Forge) -> str:
    header, payload, signature = _parts(forge)
    return json.dumps({"protected": header, "payload": payload, "signature": signature})


SHAPES: dict[str, Forgery] = {
    "empty": lambda _: "",
    "a word": lambda _: "token",
    "one dot": lambda _: ".",
    "two dots": lambda _: "..",
    "three dots": lambda _: "...",
    "one part": lambda forge: _parts(forge)[0],
    "two parts": lambda forge: ".".join(_parts(forge)[:2]),
    "four parts": lambda forge: f"{forge.token()}.{_parts(forge)[2]}",
    "five parts, as encrypted tokens have": lambda forge: f"{forge.token()}.AAAA.AAAA",
    "no header": lambda forge: f".{_parts(forge)[1]}.{_parts(forge)[2]}",
    "no payload": lambda forge: f"{_parts(forge)[0]}..{_parts(forge)[2]}",
    "no signature": lambda forge: ".".join([*_parts(forge)[:2], ""]),
    "dot at the end": lambda forge: forge.token() + ".",
    "dot at the beginning": lambda forge: "." + forge.token(),
    "space before": lambda forge: " " + forge.token(),
    "space after": lambda forge: forge.token() + " ",
    "newline after": lambda forge: forge.token() + "\n",
    "newline inside": lambda forge: forge.token().replace(".", ".\n", 1),
    "tab inside": lambda forge: forge.token().replace(".", "\t.", 1),
    "NUL after": lambda forge: forge.token() + "\0",
    "letter outside ASCII": lambda forge: forge.token() + "é",
    "digit of another script": lambda forge: forge.token() + "\N{ARABIC-INDIC DIGIT ONE}",
    "percent-encoded dots": lambda forge: forge.token().replace(".", "%2E"),
    "in quotes": lambda forge: f'"{forge.token()}"',
    "two tokens": lambda forge: f"{forge.token()},{forge.token()}",
    "the scheme twice": lambda forge: f"Bearer {forge.token()}",
    "as JSON": _flattened,
    "padded header": lambda forge: _padded_and_signed(forge, 0),
    "padded payload": lambda forge: _padded_and_signed(forge, 1),
    "padded signature": lambda forge: forge.token() + "==",
    "one padding character": lambda forge: forge.token() + "=",
    "standard base64": lambda forge: forge.token().replace("-", "+").replace("_", "/") + "+/",
    "loose bits in the header": _ragged_header,
    "loose bits in the payload": _ragged,
    "loose bits in the signature": lambda forge: ".".join([*_parts(forge)[:2], _loose_bits(_parts(forge)[2])]),
    "impossible length": lambda forge: forge.token() + "AAA",
    "over 8 KiB": lambda forge: forge.token(padding="x" * 8192),
    "megabyte": lambda _: "A" * 1_000_000,
}

SIGNATURES: dict[str, Forgery] = {
    "another key": lambda forge: forge.signed(json.dumps(forge.claims()).encode(), key=forge.theirs),
    "one bit flipped": _flipped,
    "payload exchanged": _other_payload,
    "signature cut": lambda forge: _with_signature(forge, _signature(forge)[:-1]),
    "signature of one byte": lambda forge: _with_signature(forge, b"\0"),
    "zero before the signature": lambda forge: _with_signature(forge, b"\0" + _signature(forge)),
    "zero after the signature": lambda forge: _with_signature(forge, _signature(forge) + b"\0"),
    "signature of zeros": lambda forge: _with_signature(forge, bytes(256)),
    "signature of ones": lambda forge: _with_signature(forge, b"\xff" * 256),
    "SHA-1 inside": lambda forge: _resigned(forge, "RS256", SHA1()),
    "SHA-512 inside": lambda forge: _resigned(forge, "RS256", SHA512()),
    "PSS inside": lambda forge: _pss(forge, "RS256"),
    "header exchanged": lambda forge: ".".join([b64(b'{"alg":"RS256"}'), *_parts(forge)[1:]]),
}

ALGORITHMS: dict[str, Forgery] = {
    "none": lambda forge: forge.input_for("none") + ".",
    "none, with a signature": lambda forge: f"{forge.input_for('none')}.{_parts(forge)[2]}",
    "None": lambda forge: f"{forge.input_for('None')}.AAAA",
    "NONE": lambda forge: f"{forge.input_for('NONE')}.AAAA",
    "nOnE": lambda forge: f"{forge.input_for('nOnE')}.AAAA",
    "HS256 with the public key": lambda forge: forge.mac("HS256", "sha256", public_pem(forge.ours)),
    "HS256 with the public key, stripped": lambda forge: forge.mac("HS256", "sha256", public_pem(forge.ours).strip()),
    "HS256 with nothing": lambda forge: forge.mac("HS256", "sha256", b""),
    "HS384 with the public key": lambda forge: forge.mac("HS384", "sha384", public_pem(forge.ours)),
    "HS512 with the public key": lambda forge: forge.mac("HS512", "sha512", public_pem(forge.ours)),
    "RS384 by our key": lambda forge: _resigned(forge, "RS384", SHA384()),
    "RS512 by our key": lambda forge: _resigned(forge, "RS512", SHA512()),
    "PS256 by our key": lambda forge: _pss(forge, "PS256"),
    "ES256": _elliptic,
    "EdDSA": lambda forge: f"{forge.input_for('EdDSA')}.{b64(bytes(64))}",
    "rs256": lambda forge: forge.headed(alg="rs256"),
    "RS256 and a space": lambda forge: forge.headed(alg="RS256 "),
    "RS256 and a NUL": lambda forge: forge.headed(alg="RS256\0"),
    "no alg": lambda forge: forge.headed(alg=MISSING),
    "null": lambda forge: forge.headed(alg=None),
    "empty": lambda forge: forge.headed(alg=""),
    "a list": lambda forge: forge.headed(alg=["RS256"]),
    "an object": lambda forge: forge.headed(alg={"RS256": True}),
    "a number": lambda forge: forge.headed(alg=256),
    "true": lambda forge: forge.headed(alg=True),
}

_EXTRA_FIELDS: dict[str, object] = {
    "jku": "https://attacker.example/keys.json",
    "x5u": "https://attacker.example/key.pem",
    "x5c": ["MIIB"],
    "x5t": "AAAA",
    "x5t#S256": "AAAA",
    "crit": ["exp"],
    "b64": True,
    "cty": "JWT",
    "zip": "DEF",
    "enc": "A128GCM",
    "epk": {},
    "apu": "AAAA",
    "p2c": 1_000_000_000,
    "iss": "dashboard",
    "nonce": "1",
    "ALG": "none",
    "": "",
    "__proto__": {},
}


def _with_field(name: str, value: object) -> Forgery:
    fields = {name: value}
    return lambda forge: forge.headed(None, **fields)


HEADERS: dict[str, Forgery] = {
    **{f"field {name!r}": _with_field(name, value) for name, value in _EXTRA_FIELDS.items()},
    "own jwk": _own_jwk,
    "own jku, own key": lambda forge: forge.headed(forge.theirs, jku="https://attacker.example/keys.json"),
    "detached payload": _detached,
    "empty crit": lambda forge: forge.headed(crit=[]),
    "crit that is null": lambda forge: forge.headed(crit=None),
    "typ that is a number": lambda forge: forge.headed(typ=1),
    "typ that is null": lambda forge: forge.headed(typ=None),
    "typ that is empty": lambda forge: forge.headed(typ=""),
    "typ of another kind of token": lambda forge: forge.headed(typ="dpop+jwt"),
    "typ that is a list": lambda forge: forge.headed(typ=["JWT"]),
    "kid that is a number": lambda forge: forge.headed(kid=1),
    "kid that is null": lambda forge: forge.headed(kid=None),
    "kid that is an object": lambda forge: forge.headed(kid={"a": 1}),
    "kid as a path, another key": lambda forge: forge.headed(forge.theirs, kid="../../dev/null"),
    "alg twice": lambda forge: forge.reheaded('{"alg":"none","alg":"RS256"}'),
    "alg twice, one escaped": lambda forge: forge.reheaded('{"\\u0061lg":"none","alg":"RS256"}'),
    "kid twice": lambda forge: forge.reheaded('{"alg":"RS256","kid":"a","kid":"a"}'),
    "a list": lambda forge: forge.reheaded('["RS256"]'),
    "a string": lambda forge: forge.reheaded('"RS256"'),
    "a number": lambda forge: forge.reheaded("256"),
    "null": lambda forge: forge.reheaded("null"),
    "empty object": lambda forge: forge.reheaded("{}"),
    "not JSON": lambda forge: forge.reheaded("alg=RS256"),
    "single quotes": lambda forge: forge.reheaded("{'alg':'RS256'}"),
    "comma at the end": lambda forge: forge.reheaded('{"alg":"RS256",}'),
    "two objects": lambda forge: forge.reheaded('{"alg":"RS256"}{}'),
    "NaN": lambda forge: forge.reheaded('{"alg":"RS256","kid":NaN}'),
    "byte order mark": lambda forge: forge.reheaded('\ufeff{"alg":"RS256"}'),
    "UTF-16": lambda forge: forge.signed(json.dumps(forge.claims()).encode(), '{"alg":"RS256"}'.encode("utf-16-le")),
    "deep": lambda forge: forge.reheaded('{"alg":"RS256","kid":' + "[" * 2500 + "]" * 2500 + "}"),
}
