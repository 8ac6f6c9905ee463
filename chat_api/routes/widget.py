"""The embeddable widget: its script, for any website."""

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response

from chat_api.widget import widget_script

MAX_AGE_S = 300

router = APIRouter(tags=["widget"])


@router.get("/widget.js", response_class=Response)
def widget(if_none_match: Annotated[str, Header()] = "") -> Response:
    """The script that puts the chat on a page. 304 when the browser has it already."""
    script = widget_script().encode()
    etag = f'"{sha256(script).hexdigest()[:32]}"'
    headers = {
        "ETag": etag,
        "Cache-Control": f"public, max-age={MAX_AGE_S}",
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
    }
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    if known & {etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(script, headers=headers, media_type="text/javascript")
