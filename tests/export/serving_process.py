"""`nasflow serve-model` as a process that listens."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address of the model that it says."""
    command = [sys.executable, "-m", "flows.cli", "serve-model", str(bundle), "--port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"serving {bundle / 'model.onnx'} (sha256 "), line
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()
