"""Does the ONNX file compute what the module computes? Every example, several batch sizes, random inputs too."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException
from torch import nn

from export.module import device_of, evaluating, outputs_of

SMALL_BATCHES = (1, 2, 7)
Array = NDArray[np.generic]
Values = NDArray[np.float64]


class ParityError(RuntimeError):
    """The file and the module cannot be compared, or do not agree; the message gives the figures and the cure."""


@dataclass(frozen=True)
class Parity:
    """How closely an ONNX file follows its module.

    examples: how many inputs were compared, random ones not counted. agreement: the share of them with equal predictions,
    0 to 1. largest_difference: the largest |file - module| over all logits seen; NaN when either side has one.
    probability_difference: the same over the further outputs, 0 when there are none. tolerance: see `check`.
    batch_sizes: the sizes run. differing: how many predictions differ. ties: how many of those are ties of the module.
    """

    examples: int
    agreement: float
    largest_difference: float
    probability_difference: float
    tolerance: float
    batch_sizes: tuple[int, ...]
    passed: bool
    differing: int
    ties: int


@dataclass(frozen=True)
class _Comparison:
    """Two answers to one batch: what `Parity` is summed up from."""

    within: bool
    logits: float
    others: float
    differing: int
    ties: int


def check(
    path: Path, module: nn.Module, inputs: Array, *, batch_size: int = 256, tolerance: float = 1e-4, also: int = 1
) -> tuple[Parity, NDArray[np.float32]]:
    """Compare the file at `path` with `module`; return the figures and the file's logits for all inputs.

    inputs: N x H x W x C as the module takes them, N >= 1; may be memory-mapped, and is read batch by batch. Compared are
    all inputs in batches of `batch_size`, the first ones in batches of 1, 2, 7 and `also`, the file at those sizes with itself
    in the large batch, and random inputs of the same dtype and range at those sizes.

    The rule: a is the file's number, b the module's; |a - b| <= tolerance * max(1, max|b|), where max|b| runs over the
    same example, so one example with large logits excuses no other. The further outputs obey it too. `passed` needs this
    everywhere, no NaN, and the same prediction (argmax of the first output) for every example, except where the module's
    two largest logits are closer than twice the allowed difference: a tie that no arithmetic decides, counted in `ties`.

    Raises ParityError when the file does not take these inputs or fails on them, FileNotFoundError when there is no file.
    """
    if batch_size < 1 or len(inputs) < 1:
        raise ParityError(f"{len(inputs)} inputs in batches of {batch_size} compare nothing: give at least one input and one per batch")
    session = _session(path)
    _assert_takes(session, inputs)
    sizes = tuple(dict.fromkeys((*SMALL_BATCHES, also)))
    large: list[_Comparison] = []
    logits: list[NDArray[np.float32]] = []
    with evaluating(module):
        for start in range(0, len(inputs), batch_size):
            batch = np.ascontiguousarray(inputs[start : start + batch_size])
            answer = _ask_file(session, batch)
            large.append(_compare(answer, _ask_module(module, batch), tolerance))
            logits.append(answer[0].astype(np.float32, copy=False))
        together = np.concatenate(logits)
        small: list[_Comparison] = []
        for batch, rows in _small_batches(inputs, sizes):
            small += _compare_small(session, module, batch, together[rows], tolerance)
    return _sum_up(large, small, len(inputs), tuple(dict.fromkeys((*sizes, batch_size))), tolerance), together


def require(parity: Parity) -> None:
    """Raise ParityError with the figures in one sentence unless the check passed."""
    if not parity.passed:
        raise ParityError(
            f"the ONNX file does not follow its module: on {parity.examples} examples {parity.differing} predictions differ "
            f"({parity.ties} of them ties), logits by up to {parity.largest_difference:.3g} and further outputs by up to "
            f"{parity.probability_difference:.3g} at tolerance {parity.tolerance:g} (times the largest logit of an example); "
            "export again with the other exporter, or find the operation that differs"
        )


def _session(path: Path) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: export the module to it first")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Waiting threads that spin would take the processor from whatever else runs beside the check.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has an exception class for each way in which a file can be unusable
        found = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ParityError(f"{path.name} cannot be loaded ({found}), but must run: export again with the other exporter") from error


def _assert_takes(session: onnxruntime.InferenceSession, inputs: Array) -> None:
    expected = session.get_inputs()[0]
    dtype = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}.get(expected.type, expected.type)
    if dtype != inputs.dtype.name or list(expected.shape[1:]) != list(inputs.shape[1:]):
        raise ParityError(
            f"the inputs are {inputs.dtype.name} {list(inputs.shape)}, but the file takes {dtype} {expected.shape}: "
            "give the inputs that the module was exported for"
        )


def _ask_file(session: onnxruntime.InferenceSession, batch: Array) -> list[Array]:
    try:
        answer: list[Array] = session.run(None, {session.get_inputs()[0].name: batch})
    except (Fail, InvalidArgument, RuntimeException) as error:
        found = str(error).splitlines()[0]
        raise ParityError(
            f"the file fails on a batch of {len(batch)} ({found}), but must take any size: export again with the other exporter"
        ) from error
    return answer


def _ask_module(module: nn.Module, batch: Array) -> list[Array]:
    # A copy, because a memory-mapped batch is read-only and PyTorch has no read-only tensors.
    result = outputs_of(module(torch.from_numpy(batch.copy()).to(device_of(module))))
    return [part.detach().float().cpu().numpy() for part in result]


def _small_batches(inputs: Array, sizes: tuple[int, ...]) -> Iterator[tuple[Array, NDArray[np.intp]]]:
    """The first examples and the rows they have in the whole; from the start again where there are too few."""
    for size in sizes:
        rows = np.arange(size) % len(inputs)
        yield np.ascontiguousarray(inputs[rows]), rows


def _compare_small(
    session: onnxruntime.InferenceSession, module: nn.Module, batch: Array, together: Array, tolerance: float
) -> Iterator[_Comparison]:
    answer = _ask_file(session, batch)
    yield _compare(answer, _ask_module(module, batch), tolerance)
    yield _compare(answer[:1], [together], tolerance)
    noise = _noise_like(batch)
    yield _compare(_ask_file(session, noise), _ask_module(module, noise), tolerance)


def _noise_like(batch: Array) -> Array:
    generator = np.random.default_rng(len(batch))
    if batch.dtype == np.uint8:
        return generator.integers(0, 256, batch.shape, np.uint8)
    low, high = float(np.nanmin(batch)), float(np.nanmax(batch))
    return generator.uniform(low, max(high, low + 1.0), batch.shape).astype(batch.dtype)


def _compare(answer: list[Array], expected: list[Array], tolerance: float) -> _Comparison:
    """One batch, both answers: each a list of arrays whose first dimension is the example."""
    shapes = [[part.shape for part in side] for side in (answer, expected)]
    if shapes[0] != shapes[1]:
        raise ParityError(f"the file answers with shapes {shapes[0]}, the module with {shapes[1]}: export this module again")
    parts = [_distances(a, b, tolerance) for a, b in zip(answer, expected, strict=True)]
    a, b = (side[0].reshape(-1, side[0].shape[-1]) for side in (answer, expected))
    differ = (a.argmax(-1) != b.argmax(-1)).reshape(len(answer[0]), -1)
    # Both logits may move by what is allowed, so an order closer than twice that is nobody's prediction.
    tied = (_margins(b) < 2 * tolerance * np.maximum(1, np.abs(b).max(-1))).reshape(differ.shape)
    differing, excused = differ.any(-1), ~(differ & ~tied).any(-1)
    return _Comparison(
        within=all(within for within, _ in parts),
        logits=parts[0][1],
        others=float(np.max([largest for _, largest in parts[1:]], initial=0.0)),
        differing=int(differing.sum()),
        ties=int((differing & excused).sum()),
    )


def _distances(a: Array, b: Array, tolerance: float) -> tuple[bool, float]:
    """Whether the rule holds for every number, and the largest difference; NaN when there is one."""
    given, wanted = (side.astype(np.float64).reshape(len(side), -1) for side in (a, b))
    # Infinite minus infinite is NaN, and NaN is within nothing: what must fail, fails without a warning.
    with np.errstate(invalid="ignore"):
        difference = np.abs(given - wanted)
        allowed = tolerance * np.maximum(1, np.abs(wanted).max(-1, keepdims=True))
        return bool((difference <= allowed).all() and np.isfinite(wanted).all()), float(difference.max())


def _margins(logits: Array) -> Values:
    """Rows x classes -> how far the largest is from the second; infinite where there is one class only."""
    if logits.shape[-1] < 2:
        return np.full(len(logits), np.inf)
    ordered = np.sort(logits.astype(np.float64), axis=-1)
    with np.errstate(invalid="ignore"):
        margins: Values = ordered[:, -1] - ordered[:, -2]
    return margins


def _sum_up(large: list[_Comparison], small: list[_Comparison], examples: int, batch_sizes: tuple[int, ...], tolerance: float) -> Parity:
    every = [*large, *small]
    differing = sum(part.differing for part in large)
    return Parity(
        examples=examples,
        agreement=1 - differing / examples,
        largest_difference=float(np.max([part.logits for part in every])),
        probability_difference=float(np.max([part.others for part in every])),
        tolerance=tolerance,
        batch_sizes=batch_sizes,
        passed=all(part.within and part.differing == part.ties for part in every),
        differing=differing,
        ties=sum(part.ties for part in large),
    )
