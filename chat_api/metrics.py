"""The API's own figures for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

HTTP_REQUESTS = Counter("http_requests", "Requests answered", ["method", "route", "status"])
HTTP_SECONDS = Histogram("http_request_seconds", "Seconds until a request was answered in full", ["method", "route"])
WS_CONNECTIONS = Gauge("ws_connections", "WebSockets that are open")
