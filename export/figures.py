"""The names of what is measured of a file by its structure alone; nothing is imported for them."""

VARIANTS = ("", "int8_")
"""What the names of figures begin with: nothing for the file in floats, `int8_` for the quantized one."""
FIGURES = ("latency_ms", "file_bytes", "peak_memory")
"""Milliseconds of a run, with `_low` and `_high` of the interval; bytes of the file; bytes that a process grows by to run it."""
EVERY = tuple(f"{variant}{figure}" for variant in VARIANTS for figure in FIGURES)
"""All of them."""
