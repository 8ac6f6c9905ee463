"""Tests of two databases that drift apart and agree again."""
