"""Tests of the training routes over rows that stand in the databases, without a worker."""
