"""Keeps the dashboard's rows and what is held of them in step."""
