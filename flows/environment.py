"""What the last bits of a result depend on beside its inputs: library versions, processor, threads, device."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "onnxscript")
_INSTRUCTIONS = ("sse4", "avx", "fma", "f16c", "amx", "neon", "asimd", "sve", "bf16")
_PROCESSOR = Path("/proc/cpuinfo")
# Each makes PyTorch's libraries choose other kernels on the same processor.
_VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")


def present(device: str = "cpu") -> dict[str, Any]:
    """Return the environment of this process as JSON values; `device` is `cpu` or `cuda`, where a result is computed.

    Call it where threads are pinned already: their number is part of it.
    """
    import torch

    described = _processor()
    found: dict[str, Any] = {
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "machine": platform.machine(),
        "processor": described.get("model name", platform.processor()),
        "instructions": [
            torch.backends.cpu.get_cpu_capability(),
            *sorted(flag for flag in described.get("flags", described.get("Features", "")).split() if flag.startswith(_INSTRUCTIONS)),
        ],
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "threads": torch.get_num_threads(),
        "device": device,
    }
    if device.startswith("cuda"):
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "cudnn": cudnn}
    return found


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a few words for each part that differs, such as "torch 2.14.0 (began under 2.13.0)"."""
    found = []
    for name in sorted(was.keys() | now.keys(), key=list({**now, **was}).index):
        before, after = was.get(name), now.get(name)
        if before == after:
            continue
        if isinstance(before, list) and isinstance(after, list):
            gone, new = [item for item in before if item not in after], [item for item in after if item not in before]
            parts = [f"{word} {' '.join(items)}" for word, items in (("with", new), ("without", gone)) if items]
            found.append(f"{name} {' and '.join(parts)}")
        else:
            found.append(f"{name} {_words(after)} (began under {_words(before)})")
    return found


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in value.items()) or "none"
    return "none" if value is None else str(value)


def _processor() -> dict[str, str]:
    """What the system says of the first processor; empty where it says nothing."""
    try:
        first = _PROCESSOR.read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): text.strip() for name, _, text in pairs}
