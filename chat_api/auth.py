"""Identity: token → Principal, one pure function for HTTP and WebSocket; scopes."""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, NoReturn, TypeGuard
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from chat_api.core.refusals import ForbiddenBot, MissingScope, Unauthenticated
from chat_api.core.settings import Settings
from chat_api.core.storable import is_storable

ALGORITHM = "RS256"
MAX_TOKEN_BYTES = 8192
LEEWAY_S = 30
MAX_SUB_CHARS = 128

_HEADER_FIELDS = {"alg", "typ", "kid"}
_TYPES = {"jwt", "at+jwt"}
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+")
_jws = jwt.PyJWS(algorithms=[ALGORITHM])


class TokenRefused(Unauthenticated):
    """A valid token is needed."""

    def __init__(self, reason: str) -> None:
        """`reason` is for the log alone: whoever sent the token learns nothing from it."""
        super().__init__()
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, as the token says. `bot_id` narrows to one bot; `origins` to the browser origins listed."""

    sub: str
    org_id: UUID
    bot_id: UUID | None
    scopes: frozenset[str]
    expires_at: datetime
    origins: tuple[str, ...] | None = None

    def ends_at(self, now: datetime) -> datetime:
        """Until when it counts that is taken `now`: in its leeway, to that one's end."""
        return self.expires_at + timedelta(seconds=0 if now < self.expires_at else LEEWAY_S)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a deployment demands of tokens: `iss` and `aud` when set, and the longest `exp - iat` in seconds."""

    issuer: str | None = None
    audience: str | None = None
    max_lifetime_s: int = 86_400

    @classmethod
    def of(cls, settings: Settings) -> "TokenRules":
        """The rules that the JWT_* settings make."""
        return cls(settings.jwt_issuer, settings.jwt_audience, settings.jwt_max_lifetime_s)


def bearer_token(authorization: Sequence[str]) -> str | None:
    """The token of a request's Authorization headers, None without one. Raises TokenRefused on anything unusual."""
    if not authorization:
        return None
    scheme, _, token = authorization[0].partition(" ")
    if len(authorization) > 1 or scheme.lower() != "bearer" or not token:
        raise TokenRefused("the Authorization header is not one bearer token")
    return token


def require(principal: Principal, scope: str) -> None:
    """Raises MissingScope unless the token allows `scope`."""
    if scope not in principal.scopes:
        raise MissingScope()


def require_bot(principal: Principal, bot_id: UUID) -> None:
    """Raises ForbiddenBot when the token is narrowed to another bot."""
    if principal.bot_id not in {None, bot_id}:
        raise ForbiddenBot()


def verify(token: str | bytes, keys: Sequence[RSAPublicKey], rules: TokenRules, now: float) -> Principal:
    """The principal that a token (compact JWS) proves, `now` in Unix seconds. Raises TokenRefused, and nothing else.

    PyJWT checks the signature. Everything that it would let through is refused around it: unknown header fields,
    padded base64url, duplicate keys, times that are floats, booleans or strings, and unlimited lifetimes.
    """
    header, _, _ = parts = _split(token)
    _check_header(_strict_json(_decode(header, "header"), "header"))
    for part in parts[1:]:
        _decode(part, "payload or signature")
    payload = _strict_json(_signed_payload(b".".join(parts), keys), "payload")
    return _principal(payload, rules, now)


def _split(token: str | bytes) -> list[bytes]:
    try:
        raw = token.encode("ascii") if isinstance(token, str) else token
    except UnicodeEncodeError:
        raise TokenRefused("the token is not ASCII") from None
    if len(raw) > MAX_TOKEN_BYTES:
        raise TokenRefused("the token is too long")
    parts = raw.split(b".")
    if len(parts) != 3:
        raise TokenRefused("the token does not have three parts")
    return parts


def _decode(part: bytes, name: str) -> bytes:
    if not _BASE64URL.fullmatch(part):
        raise TokenRefused(f"the {name} has characters outside base64url")
    try:
        decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        raise TokenRefused(f"the {name} has an impossible length") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise TokenRefused(f"the {name} is not canonical base64url")
    return decoded


def _strict_json(raw: bytes, name: str) -> dict[str, Any]:
    try:
        # json.loads would guess UTF-16 and UTF-32 from bytes.
        parsed = json.loads(
            raw.decode(), object_pairs_hook=_unique, parse_constant=_not_a_number, parse_float=_finite_float
        )
    except (ValueError, RecursionError) as error:
        # A decoder's own message may quote the token.
        reason = str(error) if isinstance(error, _StrictnessError) else type(error).__name__
        raise TokenRefused(f"the {name} is not acceptable JSON: {reason}") from None
    if not isinstance(parsed, dict):
        raise TokenRefused(f"the {name} is not a JSON object")
    return parsed


class _StrictnessError(ValueError):
    """JSON that Python would take and we don't."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _StrictnessError("a key appears twice")
    return found


def _not_a_number(_: str) -> NoReturn:
    raise _StrictnessError("a number is not finite")


def _finite_float(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise _StrictnessError("a number is not finite")
    return number


def _check_header(header: dict[str, Any]) -> None:
    if header.get("alg") != ALGORITHM:
        raise TokenRefused("the algorithm is not RS256")
    if not header.keys() <= _HEADER_FIELDS:
        raise TokenRefused("the header has fields besides alg, typ, kid")
    typ, kid = header.get("typ", "JWT"), header.get("kid", "")
    if not (isinstance(typ, str) and typ.lower() in _TYPES and isinstance(kid, str)):
        raise TokenRefused("typ or kid is not valid")


def _signed_payload(token: bytes, keys: Sequence[RSAPublicKey]) -> bytes:
    """The payload that one of the keys signed. `kid` is the sender's word, so that each key is tried."""
    for key in keys:
        try:
            payload: bytes = _jws.decode(token, key, [ALGORITHM], {"enforce_minimum_key_length": True})
        except jwt.InvalidSignatureError:
            continue
        except jwt.PyJWTError as error:
            raise TokenRefused(f"PyJWT refused it: {type(error).__name__}") from None
        return payload
    raise TokenRefused("no key of ours signed it")


def _principal(payload: dict[str, Any], rules: TokenRules, now: float) -> Principal:
    _check_issuer_and_audience(payload, rules)
    return Principal(
        sub=_sub(payload),
        org_id=_uuid(payload, "org_id"),
        bot_id=_uuid(payload, "bot_id") if "bot_id" in payload else None,
        scopes=_scopes(payload),
        expires_at=_expiry(payload, rules.max_lifetime_s, now),
        origins=_origins(payload),
    )


def _check_issuer_and_audience(payload: dict[str, Any], rules: TokenRules) -> None:
    if rules.issuer is not None and payload.get("iss") != rules.issuer:
        raise TokenRefused("the issuer is not ours")
    audiences = payload.get("aud")
    if isinstance(audiences, str):
        audiences = [audiences]
    if rules.audience is not None and not (_are_strings(audiences) and rules.audience in audiences):
        raise TokenRefused("the audience is not us")


def _expiry(payload: dict[str, Any], max_lifetime_s: int, now: float) -> datetime:
    exp, iat, nbf = _time(payload, "exp"), _time(payload, "iat"), _time(payload, "nbf", default=0)
    if not 0 < exp - iat <= max_lifetime_s:
        raise TokenRefused("its lifetime is too long or not positive")
    if exp <= now - LEEWAY_S:
        raise TokenRefused("it has expired")
    if max(iat, nbf) > now + LEEWAY_S:
        raise TokenRefused("it is not valid yet")
    return datetime.fromtimestamp(exp, UTC)


def _time(payload: dict[str, Any], claim: str, default: int | None = None) -> int:
    value = payload.get(claim, default)
    if type(value) is not int:  # a bool is an int, too
        raise TokenRefused(f"{claim} is missing or not an integer")
    return value


def _sub(payload: dict[str, Any]) -> str:
    sub = payload.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= MAX_SUB_CHARS or not is_storable(sub):
        raise TokenRefused("sub is missing or not valid")
    return sub


def _uuid(payload: dict[str, Any], claim: str) -> UUID:
    text = payload.get(claim)
    try:
        found = UUID(text) if isinstance(text, str) else None
    except ValueError:
        found = None
    if found is None or str(found) != text:
        raise TokenRefused(f"{claim} is missing or not a canonical uuid")
    return found


def _scopes(payload: dict[str, Any]) -> frozenset[str]:
    scope = payload.get("scope", "")
    if not isinstance(scope, str):
        raise TokenRefused("scope is not a string")
    return frozenset(scope.split(" ")) - {""}


def _origins(payload: dict[str, Any]) -> tuple[str, ...] | None:
    if "origins" not in payload:
        return None
    origins = payload["origins"]
    if not _are_strings(origins):
        raise TokenRefused("origins is not a list of strings")
    return tuple(origins)


def _are_strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
