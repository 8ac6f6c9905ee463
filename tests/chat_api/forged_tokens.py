"""All forged and malformed tokens, each with one thing wrong, to be replayed on every door that takes a token.

`FORGED` maps a name to a function that makes the token with a fresh `Forge`; `Forge().token()` is a good one.
"""

from tests.chat_api.forge import Forgery
from tests.chat_api.forged_claims import CLAIMS, EXPIRED, PAYLOADS
from tests.chat_api.forged_envelopes import ALGORITHMS, HEADERS, SHAPES, SIGNATURES

FORGED: dict[str, Forgery] = {
    f"{kind}: {name}": make
    for kind, table in {
        "shape": SHAPES,
        "signature": SIGNATURES,
        "alg": ALGORITHMS,
        "header": HEADERS,
        "payload": PAYLOADS,
        "claim": CLAIMS,
        "expired": EXPIRED,
    }.items()
    for name, make in table.items()
}
