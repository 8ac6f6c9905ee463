"""Tests of claiming, holding and losing tasks."""
