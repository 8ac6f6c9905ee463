"""Owns how a page's picture goes from the child that makes it to the process that has it read."""

import struct

DPI = 300
MOST_PIXELS = 12_000_000
PICTURE = struct.Struct("<III")
"""Width, height and dots per inch; behind it a byte of grey for each pixel, row by row."""
