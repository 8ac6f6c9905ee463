"""Tests of what training writes, and of the switch."""
