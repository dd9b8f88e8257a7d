"""What an ONNX file answers to many inputs, batch by batch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.machine import Target
from export.session import Array, open_session, try_once


def answers(model: Path | bytes, inputs: Array, target: Target | None = None, *, batch_size: int = 256) -> NDArray[np.float32]:
    """Return the file's first output for all `inputs`, N x H x W x C as the file takes them: N x K.

    The target's threads and provider are used (one thread of the CPU without one), and batches of `batch_size` whatever its own. Raises
    MeasureError when the file cannot be run on them, ValueError without inputs.
    """
    if not len(inputs):
        raise ValueError("there are no inputs to score a file on: give at least one")
    session = open_session(model, target or Target())
    name = session.get_inputs()[0].name
    try_once(session, {name: np.ascontiguousarray(inputs[:1])})
    batches = (np.ascontiguousarray(inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size))
    return np.concatenate([session.run(None, {name: batch})[0] for batch in batches]).astype(np.float32, copy=False)
