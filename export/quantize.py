"""An ONNX file becomes its int8 variant: static, per channel, in the QDQ format, calibrated on images that its user names.

Weights and activations get 8 bits where onnxruntime has a rule for the operator (Jacob et al. 2018, "Quantization and training of
neural networks for efficient integer-arithmetic-only inference", section 2; the same scheme). Whether the result is faster, and
how much it loses, differs from processor to processor: measure both files and compare.
"""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export import files
from export.machine import Target
from export.quantized_graph import WEIGHTED, counts, free_outputs, kept_in_floats, normalize
from export.session import DTYPES, MeasureError, open_session

Array = NDArray[np.generic]
Method = Literal["minmax", "entropy", "percentile"]
METHODS: Mapping[Method, str] = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


class QuantizeError(RuntimeError):
    """The file has no int8 variant as asked for; the message says what, the rule and the cure."""


@final
@dataclass(frozen=True)
class Scheme:
    """How to quantize.

    method: how the range of an activation is chosen: "minmax" takes all values seen, "entropy" and "percentile" cut outliers.
    activations: type of activations; "uint8" is what x86 processors compute fastest, "int8" suits ARM and most accelerators.
    reduce_range: weights of 7 bits. Processors without VNNI add products in 16 bits, which overflow silently with 8.
    operators: types of operators to quantize; None: all for which onnxruntime has a rule.
    """

    method: Method = "minmax"
    activations: Literal["uint8", "int8"] = "uint8"
    reduce_range: bool = True
    operators: tuple[str, ...] | None = None


@final
@dataclass(frozen=True)
class Quantized:
    """What became of a file. bytes, sha256: of the int8 file. quantized: operators whose operands have 8 bits, how many of each
    type. floating: those that still compute on floats, apart from the mapping of the images. examples: images seen in calibration."""

    bytes: int
    sha256: str
    quantized: Mapping[str, int]
    floating: Mapping[str, int]
    examples: int


@final
class _Reader:
    """One batch, in the form in which onnxruntime asks for it."""

    def __init__(self, feed: Mapping[str, Array]) -> None:
        self._left = [feed]

    def get_next(self) -> Mapping[str, Array] | None:
        return self._left.pop() if self._left else None


def quantize(model: Path, path: Path, batches: Iterable[Array], scheme: Scheme = Scheme()) -> Quantized:
    """Write the int8 variant of the ONNX file `model` to `path`: the same inputs, outputs and metadata, with "quantized" added.

    batches: images for calibration as the model takes them, N x H x W x C, N >= 1 each; read once, one at a time. Take them from
    the data that the weights were trained on, never from test data.

    What maps the images to the first weighted operator and what follows the outputs' last one stay in floats: eight bits of an
    input that is not yet scaled, or of a probability, say too little. The same file, batches and scheme give the same bytes.

    Raises QuantizeError when a batch does not fit the model, there is none, an operator asked for has no rule in onnxruntime,
    no operator can be quantized, or the model computes something that is not finite; FileNotFoundError when there is no file.
    `path` stays as it was then.
    """
    if not model.is_file():
        raise FileNotFoundError(f"there is no ONNX file at {model}: export it first")
    if not path.parent.is_dir():
        raise QuantizeError(f"{path} cannot be written, because its folder does not exist: create the folder first")
    _open(model)  # refused in words here; onnxruntime's own tools print a traceback and go on
    original = onnx.load(model)
    operators = _operators(scheme)
    with tempfile.TemporaryDirectory(prefix="quantize-") as place:
        prepared = _prepare(model, Path(place))
        kept = kept_in_floats(prepared)
        chosen = [node for node in prepared.graph.node if node.op_type in operators and node.name not in kept]
        if not any(node.op_type in WEIGHTED for node in chosen):
            found = ", ".join(sorted({node.op_type for node in prepared.graph.node}))
            raise QuantizeError(f"nothing in {model.name} can be quantized: it holds {found}, but needs one of {', '.join(WEIGHTED)}")
        with _quiet():
            ranges, examples = _calibrate(prepared, operators, _checked(batches, model), scheme, Path(place))
            result = _quantized(prepared, ranges, operators, kept, scheme)
    free_outputs(result)
    normalize(result, original, {"of": files.digest(model), "examples": examples, **_words(scheme)})
    content = result.SerializeToString(deterministic=True)
    files.write(path, content, partial(_check, original))
    done, left = counts(result, operators, kept)
    return Quantized(len(content), files.digest(path), done, left, examples)


@contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime prints as it calibrates, and warns through the root logger of what it leaves in floats, which the record says."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)


def _words(scheme: Scheme) -> dict[str, Any]:
    return {"method": scheme.method, "activations": scheme.activations, "reduce_range": scheme.reduce_range}


def _operators(scheme: Scheme) -> list[str]:
    """The types to quantize, sorted: onnxruntime keeps its own in a set, whose order changes from process to process."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    if scheme.method not in METHODS:
        raise QuantizeError(f"method is {scheme.method!r}, but must be one of {', '.join(METHODS)}: choose one of these")
    # Of these two, the results are shares: 256 steps of equal size are too few.
    known = sorted({*QDQRegistry, *QLinearOpsRegistry} - {"Softmax", "Sigmoid"})
    unknown = [name for name in scheme.operators or () if name not in known]
    if unknown:
        raise QuantizeError(f"{', '.join(unknown)} cannot be quantized, only {', '.join(known)} can: leave it in floats")
    return known if scheme.operators is None else sorted(set(scheme.operators))


def _prepare(model: Path, place: Path) -> onnx.ModelProto:
    """The model with constants folded, normalisations merged into convolutions, all shapes known and all nodes named."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    output = place / "prepared.onnx"
    try:
        quant_pre_process(model, output, skip_symbolic_shape=True)
    except Exception as error:  # onnxruntime and onnx have exception classes of their own; the cause stays chained
        raise QuantizeError(f"{model.name} cannot be prepared ({_first_line(error)}): export it again") from error
    prepared = onnx.load(output)
    for index, node in enumerate(prepared.graph.node):
        node.name = f"{node.op_type}_{index}"
    onnx.save(prepared, output)
    return prepared


def _open(model: Path) -> onnxruntime.InferenceSession:
    try:
        return open_session(model, Target())
    except MeasureError as error:
        raise QuantizeError(str(error)) from error


def _checked(batches: Iterable[Array], model: Path) -> Iterator[dict[str, Array]]:
    """The batches, fed by name; each is looked at before onnxruntime sees it."""
    ports = _open(model).get_inputs()
    if len(ports) != 1:
        raise QuantizeError(f"{model.name} has the inputs {', '.join(port.name for port in ports)}, but must have one: the images")
    [port] = ports
    dtype = np.dtype(DTYPES[port.type])
    for index, batch in enumerate(batches):
        if batch.dtype != dtype or list(batch.shape[1:]) != list(port.shape[1:]) or len(batch) < 1:
            found = f"{batch.dtype} {list(batch.shape)}"
            raise QuantizeError(f"calibration batch {index} is {found}, but {model.name} takes {dtype} {port.shape}: give its own images")
        yield {port.name: np.ascontiguousarray(batch)}


def _calibrate(
    model: onnx.ModelProto, operators: list[str], feeds: Iterator[dict[str, Array]], scheme: Scheme, place: Path
) -> tuple[Any, int]:
    """The range of every activation over all batches, and how many images there were."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    augmented = place / "augmented.onnx"
    method = CalibrationMethod[METHODS[scheme.method]]
    calibrator = create_calibrator(place / "prepared.onnx", operators, str(augmented), method)
    # Its own session takes all cores, and sums of floats may depend on how many there are.
    calibrator.infer_session = _open(augmented)
    examples = 0
    for feed in feeds:
        # One batch per call: all activations of a call are in memory at once.
        calibrator.collect_data(_Reader(feed))
        examples += len(next(iter(feed.values())))
    if not examples:
        raise QuantizeError("there are no images to calibrate with: give at least one batch, from the data that were trained on")
    ranges = calibrator.compute_data()
    _assert_finite(model, ranges)
    return ranges, examples


def _assert_finite(model: onnx.ModelProto, ranges: Any) -> None:
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    for name, data in ranges.items():
        if not np.isfinite(np.asarray(data.range_value, dtype=np.float64)).all():
            operator = makers.get(name, "the input")
            raise QuantizeError(f"{operator} computes numbers that are not finite ({name}), and they have no range: correct the model")


def _quantized(model: onnx.ModelProto, ranges: Any, operators: list[str], kept: set[str], scheme: Scheme) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    activations = QuantType.QUInt8 if scheme.activations == "uint8" else QuantType.QInt8
    extra = {"ActivationSymmetric": scheme.activations == "int8"}
    try:
        quantizer = QDQQuantizer(
            copied, True, scheme.reduce_range, QuantType.QInt8, activations, ranges, [], sorted(kept), operators, extra
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    except Exception as error:  # onnxruntime's rules raise whatever they trip over; the cause stays chained
        raise QuantizeError(f"onnxruntime cannot quantize the model ({_first_line(error)}): leave that operator in floats") from error
    result: onnx.ModelProto = quantizer.model.model
    return result


def _check(original: onnx.ModelProto, written: Path) -> None:
    """The file is valid, loads, and runs on black images with finite answers."""
    try:
        onnx.checker.check_model(str(written), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise QuantizeError(f"onnxruntime wrote an invalid model ({_first_line(error)}): leave some operators in floats") from error
    session = _open(written)
    [port] = session.get_inputs()
    black = np.zeros([2, *port.shape[1:]], DTYPES[port.type])
    answers = session.run(None, {port.name: black})
    if [output.name for output in session.get_outputs()] != [output.name for output in original.graph.output]:
        raise QuantizeError("the int8 file has other outputs than the original: leave some operators in floats")
    if not all(np.isfinite(answer).all() for answer in answers):
        raise QuantizeError("the int8 file answers with numbers that are not finite: leave some operators in floats")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
