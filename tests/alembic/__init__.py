"""Tests of the chat database's migrations."""
