"""Opening an ONNX file in onnxruntime as it will be deployed, and feeding it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.machine import CPU, Target

Array = NDArray[np.generic]
DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class MeasureError(RuntimeError):
    """The file cannot be measured for the target; the message says what was found, the rule and the cure."""


def provider_problem(target: Target) -> str | None:
    """The sentence for a provider that this onnxruntime does not have; None when it has it."""
    known = onnxruntime.get_available_providers()
    if target.provider in known:
        return None
    return f"provider {target.provider} is not in this onnxruntime, which has {', '.join(known)}: choose one of these"


def open_session(model: Path | bytes, target: Target) -> onnxruntime.InferenceSession:
    """A session with the target's threads and provider: one operator after the other, and threads that sleep when they wait.

    Spinning threads would take the cores from whoever runs beside, and make a run look cheaper than it is for the machine.
    Raises MeasureError when onnxruntime has no such provider or cannot load the file, FileNotFoundError when there is none.
    """
    if problem := provider_problem(target):
        raise MeasureError(problem)
    if isinstance(model, Path) and not model.is_file():
        raise FileNotFoundError(f"there is no ONNX file at {model}: export it first")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[target.provider])
    except Exception as error:  # onnxruntime raises classes of its own, one per status, below Exception; the cause stays chained
        raise MeasureError(f"onnxruntime cannot load {_name(model)} ({_first_line(error)}): export it again or correct it") from error
    if target.provider != CPU and session.get_providers()[0] != target.provider:
        raise MeasureError(
            f"onnxruntime runs {_name(model)} on {session.get_providers()[0]} instead of {target.provider}: check its driver"
        )
    return session


def feed(session: onnxruntime.InferenceSession, batch_size: int, inputs: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """One batch for every input of the session.

    inputs: examples per input, N >= 1 in the first dimension, repeated or cut to `batch_size`; None makes random ones, always the
    same: 0 to 255 for uint8, 0 or 1 for other integers, normal for floats. A first dimension that the file fixes stays as it is.
    Raises MeasureError for a missing input, a fixed batch of another size, and without `inputs` for an open size behind the batch.
    """
    rng = np.random.default_rng(0)
    made: dict[str, Array] = {}
    for port in session.get_inputs():
        if port.shape and isinstance(port.shape[0], int) and port.shape[0] != batch_size:
            raise MeasureError(f"the file takes batches of {port.shape[0]}, the target asks for {batch_size}: change one of them")
        if inputs is None:
            made[port.name] = _random(port, batch_size, rng)
        elif port.name not in inputs or len(inputs[port.name]) < 1:
            raise MeasureError(f"the file's input {port.name} has no example among {', '.join(inputs) or 'none'}: give one")
        else:
            rows = np.arange(batch_size) % len(inputs[port.name])
            made[port.name] = np.ascontiguousarray(inputs[port.name][rows])
    return made


def try_once(session: onnxruntime.InferenceSession, batch: Mapping[str, Array]) -> None:
    """One run, not timed. Raises MeasureError when it fails: a file may load and still not run."""
    try:
        session.run(None, dict(batch))
    except Exception as error:  # see open_session
        shapes = ", ".join(f"{name} {value.dtype} {list(value.shape)}" for name, value in batch.items())
        raise MeasureError(
            f"onnxruntime cannot run the file on {shapes} ({_first_line(error)}): give other inputs or correct it"
        ) from error


def _random(port: onnxruntime.NodeArg, batch_size: int, rng: np.random.Generator) -> Array:
    rest = port.shape[1:]
    if not all(isinstance(size, int) for size in rest) or port.type not in DTYPES:
        raise MeasureError(f"the file's input {port.name} is {port.type} of shape {port.shape}, which says too little: give examples")
    shape, dtype = ([batch_size, *rest] if port.shape else []), DTYPES[port.type]
    if np.issubdtype(dtype, np.floating):
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    return np.asarray(rng.integers(0, 256 if dtype is np.uint8 else 2, shape)).astype(dtype)


def _name(model: Path | bytes) -> str:
    return str(model) if isinstance(model, Path) else f"the file of {len(model)} bytes"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
