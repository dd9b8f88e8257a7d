"""Does another machine run the same code? Results that do not depend on the machine need that."""

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("torch", "numpy")
_ROOMS = ("nas", "export")
_DIGITS = 12


def this_code() -> dict[str, str]:
    """Return what names the code here: versions of Python and of what computes, and a digest of our own files."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for path in sorted(path for room in _ROOMS for path in (root / room).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"Python": platform.python_version(), **libraries, "the code of nasflow": digest.hexdigest()[:_DIGITS]}


def differences(expected: Mapping[str, str]) -> list[str]:
    """Return what is other here than it was there, in words."""
    here = this_code()
    return [f"{name} {here.get(name)} instead of {value}" for name, value in expected.items() if here.get(name) != value]
