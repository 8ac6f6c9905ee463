"""Tests: mirrors the source, plus flows end to end."""
