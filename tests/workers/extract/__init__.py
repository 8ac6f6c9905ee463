"""Tests of reading documents, alone and in the sandbox."""
