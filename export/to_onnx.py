"""A module becomes one ONNX file: dynamic batch, opset 18, the same bytes for the same module.

Two exporters of PyTorch are behind one name: "dynamo" (torch.export) and "torchscript" (tracing, older, faster, and still
the right one for recurrent networks that the first one cannot take).
"""

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from export import files
from export.module import evaluating, outputs_of

INPUT = "images"
BATCH = "batch"
OPSET = 18
PRODUCER = "nasflow.export"


class ExportError(RuntimeError):
    """The module cannot become the file that was asked for; the message says what, the rule and the cure."""


def to_onnx(
    module: nn.Module,
    example: Tensor,
    path: Path,
    *,
    outputs: tuple[str, ...],
    metadata: Mapping[str, str],
    exporter: str = "dynamo",
) -> None:
    """Write `module` to `path` as one self-contained ONNX file.

    module: takes one tensor, N x H x W x C of uint8 or float32, and returns a tuple of tensors whose first dimension is N;
    it is exported in evaluation mode and gets its own modes back.
    example: such a tensor, N >= 1, on the module's device; only its shape and dtype reach the file, never N.
    outputs: one name per returned tensor. metadata: goes into the file, with "exporter" added.
    exporter: "dynamo" or "torchscript".

    The same weights, names and metadata give the same bytes in any process. Nothing of the machine (paths, source lines)
    is in them. Raises ExportError, and then leaves `path` untouched: nothing there, or the file that was there before.
    """
    if exporter not in EXPORTERS:
        raise ExportError(f"exporter is {exporter!r}, but must be one of {', '.join(EXPORTERS)}: choose one of these")
    entries = _metadata(metadata, exporter)
    with evaluating(module):
        # Two examples always: a batch of one is a size that exporters like to freeze.
        pair = _images(example)[:1].repeat(2, 1, 1, 1)
        _rehearse(module, pair, outputs)
        model = _translate(exporter, module, pair, outputs)
    _normalize(model, entries)
    _assert_interface(model, pair, outputs)
    _save(model, path)


def _metadata(metadata: Mapping[str, str], exporter: str) -> dict[str, str]:
    if metadata.get("exporter", exporter) != exporter:
        raise ExportError(f"metadata names exporter {metadata['exporter']!r}, but the exporter is {exporter!r}: leave the key out")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ExportError(
                f"metadata {key!r} is {value!r}, but ONNX metadata are text: turn it into a string, for example with json.dumps"
            )
    return {**metadata, "exporter": exporter}


def _images(example: Tensor) -> Tensor:
    if example.ndim != 4 or 0 in example.shape or example.dtype not in (torch.uint8, torch.float32):
        found = f"{example.dtype} of shape {tuple(example.shape)}"
        raise ExportError(f"the example is {found}, but must be uint8 or float32, N x H x W x C, not empty: reshape or convert it")
    return example


def _rehearse(module: nn.Module, pair: Tensor, outputs: tuple[str, ...]) -> None:
    """Run the module at two batch sizes: a fault in it is told in its own words, not in an exporter's."""
    shapes = [[tuple(part.shape) for part in _run(module, batch)] for batch in (pair, torch.cat([pair, pair[:1]]))]
    if len(shapes[0]) != len(outputs) or len({*outputs, INPUT}) != len(outputs) + 1:
        names = ", ".join(outputs)
        raise ExportError(
            f"the module returns {len(shapes[0])} tensors for the names ({names}), but each needs one name of its own: name them all"
        )
    for name, two, three in zip(outputs, *shapes, strict=True):
        if two[:1] != (2,) or three != (3, *two[1:]):
            raise ExportError(
                f"{name} has shape {two} for 2 images and {three} for 3, but only the first dimension may follow N: fix the module"
            )


def _run(module: nn.Module, batch: Tensor) -> tuple[Tensor, ...]:
    try:
        return outputs_of(module(batch))
    except Exception as error:  # the module is somebody else's code and may raise anything; the cause stays chained
        found = f"{type(error).__name__}: {_first_line(error)}"
        raise ExportError(
            f"the module fails on {tuple(batch.shape)} {batch.dtype} ({found}), but must run before it is exported: fix it"
        ) from error


def _translate(exporter: str, module: nn.Module, pair: Tensor, outputs: tuple[str, ...]) -> onnx.ModelProto:
    try:
        with _quiet():
            return EXPORTERS[exporter](module, pair, outputs)
    except Exception as error:  # exporters raise what the layer they fail in raises; the cause stays chained
        other = next(name for name in EXPORTERS if name != exporter)
        root = _root(error)
        found = f"{type(root).__name__}: {_first_line(root)}"
        raise ExportError(
            f"exporter {exporter!r} cannot translate the module ({found}): use only what it knows, or exporter {other!r}"
        ) from error


def _root(error: BaseException) -> BaseException:
    """The first cause: the dynamo exporter wraps it in advice about itself, and only the first names the operation."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def _dynamo(module: nn.Module, pair: Tensor, outputs: tuple[str, ...]) -> onnx.ModelProto:
    program = torch.onnx.export(
        module,
        (pair,),
        dynamo=True,
        verbose=False,
        external_data=False,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(outputs),
        dynamic_shapes=({0: BATCH},),
    )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _torchscript(module: nn.Module, pair: Tensor, outputs: tuple[str, ...]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, _mute_native_output():
        path = Path(folder, "model.onnx")
        torch.onnx.export(
            module,
            (pair,),
            path,
            dynamo=False,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_axes={name: {0: BATCH} for name in (INPUT, *outputs)},
        )
        return onnx.load(path)


EXPORTERS: Mapping[str, Callable[[nn.Module, Tensor, tuple[str, ...]], onnx.ModelProto]] = {"dynamo": _dynamo, "torchscript": _torchscript}


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, no prints, no log lines below an error: none of them helps a reader, and each has a test of its own here."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        for logger, level in zip(loggers, levels, strict=True):
            stack.callback(partial(logger.setLevel, level))
            logger.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _mute_native_output() -> Iterator[None]:
    """On a failure, C++ prints the whole graph to file descriptor 1, past Python; no public switch turns that off."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _normalize(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Only what determines the result stays: no source paths, no notes, no build of PyTorch."""
    _strip(model)
    model.producer_name = PRODUCER
    model.producer_version = f"torch {torch.__version__.partition('+')[0]}"
    model.graph.name = "main_graph"
    for field in ("domain", "model_version"):
        model.ClearField(field)
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=metadata[key])


def _strip(message: Any) -> None:
    """Clear notes and metadata in a protobuf message and in all messages below it."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                _strip(part)


def _assert_interface(model: onnx.ModelProto, pair: Tensor, outputs: tuple[str, ...]) -> None:
    found = _interface(model)
    if list(found) != [INPUT, *outputs]:
        raise ExportError(
            f"the file's inputs and outputs are {', '.join(found)}, but must be {', '.join((INPUT, *outputs))}: try the other exporter"
        )
    if found[INPUT][1:] != list(pair.shape[1:]):
        raise ExportError(
            f"the file takes images {found[INPUT]}, but the example has {list(pair.shape[1:])} behind the batch: try the other exporter"
        )
    for name, shape in found.items():
        if shape[:1] != [BATCH] or not all(isinstance(size, int) for size in shape[1:]):
            raise ExportError(
                f"{name} has shape {shape} in the file, but only the first dimension may be open and must be '{BATCH}': "
                "take sizes from the tensor instead of constants in the module, or try the other exporter"
            )


def _interface(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Shapes by name. An output's shape is inferred again: the tracing exporter declares what it was told, not what is so."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    found = {value.name: _shape(value) for value in (*model.graph.input, *model.graph.output)}
    for value in inferred.graph.output:
        known = _shape(value)
        if len(known) == len(found[value.name]):
            found[value.name] = [size if isinstance(size, int) else told for size, told in zip(known, found[value.name], strict=True)]
    return found


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    dimensions = value.type.tensor_type.shape.dim
    return [part.dim_value if part.HasField("dim_value") else part.dim_param or "?" for part in dimensions]


def _save(model: onnx.ModelProto, path: Path) -> None:
    if not path.parent.is_dir():
        raise ExportError(f"{path} cannot be written, because its folder does not exist: create the folder first")
    try:
        files.write(path, model.SerializeToString(deterministic=True), _check_bytes)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exporter wrote an invalid model ({_first_line(error)}): try the other exporter") from error


def _check_bytes(written: Path) -> None:
    onnx.checker.check_model(str(written), full_check=True)
