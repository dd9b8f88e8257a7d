"""What a latency belongs to: the machine, and how a model is run on it."""

import hashlib
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

import onnxruntime

CPU = "CPUExecutionProvider"


@final
@dataclass(frozen=True)
class Target:
    """How a model will run where it is deployed. Raises ValueError for a size below 1 or an empty provider.

    batch_size: examples per run. threads: of one run (intra-op). provider: onnxruntime's name of what executes, for example
    "CPUExecutionProvider" or "CUDAExecutionProvider".
    """

    batch_size: int = 1
    threads: int = 1
    provider: str = CPU

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of the target is {getattr(self, name)}, but must be at least 1")
        if not self.provider:
            raise ValueError(f"the target has no provider: give the name of one, for example {CPU}")


@final
@dataclass(frozen=True)
class Machine:
    """What makes two latencies comparable: equal machines may share measurements, others may not.

    processor: the model's name. flags: 16 hexadecimal digits over the instruction sets. cores: how many this process may use.
    system: kernel's name and the instruction set architecture. onnxruntime: its version.
    """

    processor: str
    flags: str
    cores: int
    system: str
    onnxruntime: str


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """The machine that this process runs on; what the system does not tell is "unknown", never an error."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    flags = sorted(set(_field(text, "flags", "Features").split()))
    return Machine(
        processor=_field(text, "model name", "Processor") or platform.processor() or "unknown",
        flags=hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16] if flags else "unknown",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        onnxruntime=onnxruntime.__version__,
    )


def _field(text: str, *names: str) -> str:
    """The value of the first line that starts with one of `names`, which differ between processors; empty when none does."""
    for name in names:
        if found := re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE):
            return found[1].strip()
    return ""
