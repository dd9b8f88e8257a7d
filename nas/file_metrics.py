"""The names of metrics that are measured on the exported file: figures of its structure, and the task's metrics as the file scores."""

from export.figures import EVERY

QUALITIES = ("file_", "int8_")
"""What the names of the task's metrics begin with: as the file scores in floats, and quantized."""


def added(task: tuple[str, ...]) -> tuple[str, ...]:
    """Return all names, given those of the task's metrics."""
    return (*EVERY, *qualities(task))


def qualities(task: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of what needs a trained network."""
    return tuple(f"{variant}{name}" for variant in QUALITIES for name in task)
