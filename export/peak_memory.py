"""How much memory a model needs to run, seen in a process that does nothing else: python -m export.peak_memory FILE TARGET-AS-JSON"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from export.machine import Target
from export.session import MeasureError, feed, open_session, try_once

RUNS = 3


def peak_memory(model: Path | bytes, target: Target, *, timeout: float = 120.0) -> int | None:
    """Bytes that a fresh process grows by, at its highest, when it opens the file and runs random inputs three times.

    Weights, onnxruntime's arena, inputs and outputs are in it; the interpreter and the libraries, some 100 MB, are not. Memory of
    an accelerator is not either. The process costs about a second. None where the system does not keep the high-water mark
    that it needs (anything but Linux); the mark that getrusage has everywhere includes what the parent used before the start.
    Raises MeasureError when the file cannot be run, or not within `timeout` seconds.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = model if isinstance(model, Path) else Path(folder, "model.onnx")
        if isinstance(model, bytes):
            path.write_bytes(model)
        # Threads of numerical libraries allocate too; the target's threads are onnxruntime's own.
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "export.peak_memory", str(path.resolve()), json.dumps(asdict(target))]
        try:
            done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as error:
            raise MeasureError(f"the file did not run {RUNS} times within {timeout:g} s: allow more") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        raise MeasureError(f"memory could not be measured ({last}): see that the file can be measured at all, and that memory is free")
    return int(done.stdout)


def _high_water() -> int:
    """The highest resident size so far, bytes."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    """The other process: print the bytes."""
    path, target = Path(sys.argv[1]), Target(**json.loads(sys.argv[2]))
    # "5" lowers the mark to what is resident now: importing has its own peak, which is not the model's.
    Path("/proc/self/clear_refs").write_text("5")
    before = _high_water()
    session = open_session(path, target)
    batch = feed(session, target.batch_size)
    for _ in range(RUNS):
        try_once(session, batch)
    print(_high_water() - before)


if __name__ == "__main__":
    main()
