"""Reads a document as the sandbox's children do, and says what that took: an entry for `Sandbox`."""

import json
import resource
import time
from dataclasses import replace

from chat_api.core.errors import TrainingError
from workers.documents import Document, Fetched
from workers.extract import dispatch
from workers.extract.wire import dump_document

ENTRY = f"{__name__}:extract"
warm_up = dispatch.warm_up


def extract(fetched: Fetched, *, filename: str | None = None) -> Document:
    """The document, its warnings being CPU seconds and MiB as JSON; a typed error has them as its message.

    The MiB are this process's at its peak, what the answer takes on its way included.
    """
    began = time.process_time()
    try:
        document = dispatch.extract(fetched, filename=filename)
        dump_document(document)
    except TrainingError as error:
        raise type(error)(_cost(began)) from None
    return replace(document, warnings=(_cost(began),))


def _cost(began: float) -> str:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return json.dumps([time.process_time() - began, peak])
