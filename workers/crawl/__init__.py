"""Websites, read by many tasks at once."""
