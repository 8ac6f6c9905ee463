"""One turn of chat: retrieve, answer, stream, record."""
