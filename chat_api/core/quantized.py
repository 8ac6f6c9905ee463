"""Codes of vectors: two bits of each dimension, by which a search in a large bot finds the few that it compares exactly.

Four levels of a dimension are written as three bits, so that the bits in which two codes differ say by how many levels
their vectors do in all. Signs alone would need five times as many vectors to be compared for the same recall.
"""

from math import sqrt

import psycopg
from pgvector import HalfVector
from pgvector.psycopg.halfvec import HalfVectorBinaryDumper

# In binary a vector takes a fiftieth of the time that its text takes to write and to parse. Engines made from here on
# know this.
psycopg.adapters.register_dumper(HalfVector, HalfVectorBinaryDumper)

QUARTILE = 0.67
"""Of a normal distribution: a quarter of what a unit vector has in its dimensions is above this times 1/√dimensions."""


def code_of(vector: str) -> str:
    """The SQL expression of a halfvec's code; `:levels` is bound to `levels` of its dimensions."""
    levels = "CAST(:levels AS halfvec)"
    return f"binary_quantize({vector} + {levels}) || binary_quantize({vector}) || binary_quantize({vector} - {levels})"


def levels(dimensions: int) -> HalfVector:
    """What is between the two middle levels and the others, in each dimension."""
    return HalfVector([QUARTILE / sqrt(dimensions)] * dimensions)
