"""Benchmarks as modules: their folder is no package of ours."""

import importlib.util
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    """Run the file of this name, without its main part, and return it."""
    described = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module
