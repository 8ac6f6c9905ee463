"""Tests of chat_api.chat."""
