"""Tests of crawls that many tasks share."""
