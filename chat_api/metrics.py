"""The API's own figures for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

HTTP_REQUESTS = Counter("http_requests", "Requests answered", ["method", "route", "status"])
HTTP_SECONDS = Histogram("http_request_seconds", "Seconds until a request was answered in full", ["method", "route"])
WS_CONNECTIONS = Gauge("ws_connections", "WebSockets that are open")
TURNS = Counter("turns", "Turns that ended, by how", ["outcome"])
TURN_SECONDS = Histogram("turn_seconds", "Seconds from a question to the end of its answer")
FIRST_DELTA_SECONDS = Histogram(
    "turn_first_delta_seconds",
    "Seconds from a question to the first piece of its answer",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
LEXICAL_SEARCHES = Counter("lexical_searches", "Searches by words: made, or why vectors answered alone", ["outcome"])
LEXICAL_BYTES = Gauge("lexical_index_bytes", "Bytes of the indexes for searches by words")
