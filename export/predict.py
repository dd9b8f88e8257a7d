"""Classify images with the model beside this file: python predict.py image.png [more.png ...] [--top 3] [--json]

Needs Python 3.10 or newer, numpy, Pillow and onnxruntime, nothing else. Errors are one sentence on stderr, exit code 2.

Images are decoded as nasflow's prepare stage decodes files: the first frame, upright by EXIF, transparency dropped, 16-bit grey
by its upper 8 bits, resized as a whole with antialiasing. Large JPEGs are decoded at reduced scale first, as there; another
version of Pillow or another JPEG library may differ by up to 2 levels. 32-bit pixels have no agreed scale and are refused.
"""

import argparse
import hashlib
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MODES = {1: "L", 3: "RGB"}
# Pillow's readers let what they trip over in a damaged file pass through as any of these; a bomb is an image too large to be meant.
UNDECODABLE = (OSError, ValueError, SyntaxError, TypeError, LookupError, OverflowError, struct.error, zlib.error)


class PredictError(Exception):
    """What is wrong with the call, the images or the model, and what to do about it."""


def main(arguments: list[str] | None = None) -> int:
    """Print one line per image (or one JSON list) and return the exit code: 0, or 2 after an error on stderr."""
    options = _options().parse_args(arguments)
    try:
        answers = predict(options.images, options.model, options.top)
    except PredictError as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(answers, ensure_ascii=False))
        return 0
    for answer in answers:
        ranking = ", ".join(f"{entry['class']} {entry['probability']:.4f}" for entry in answer["top"])
        print(f"{answer['path']}: {answer['class']} {answer['probability']:.4f} ({ranking})")
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="predict.py", description="Classify images with an exported model.")
    parser.add_argument("images", nargs="+", type=Path, help="image files, any format that Pillow reads")
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("model.onnx"), help="the ONNX file")
    parser.add_argument("--top", type=int, default=3, help="how many classes to list per image")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of lines")
    return parser


def predict(images: list[Path], model: Path, top: int) -> list[dict[str, Any]]:
    """One answer per image: path, class, probability (0 to 1), and the `top` classes, best first.

    Raises PredictError when an image or the model cannot be read, or the model is not the one in its manifest.
    """
    if top < 1:
        raise PredictError(f"--top is {top}, but must be at least 1: leave it out for 3")
    session = _session(model)
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    batch = _batch(session.get_inputs()[0], images)
    probabilities = _probabilities(session, batch)
    names = _class_names(metadata, probabilities.shape[1])
    return [_answer(path, row, names, top) for path, row in zip(images, probabilities, strict=True)]


def _session(model: Path) -> onnxruntime.InferenceSession:
    if not model.is_file():
        raise PredictError(f"there is no model at {model}: give its place with --model")
    try:
        content = model.read_bytes()
        _verify(model, content)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except PredictError:
        raise
    except Exception as error:  # onnxruntime has an exception class for each way in which a file can be unusable
        raise PredictError(f"{model} cannot be loaded ({_first_line(error)}): copy it again from where it was exported") from error


def _verify(model: Path, content: bytes) -> None:
    """The file that was measured is the file that runs: refuse any other where a manifest can tell."""
    manifest = model.with_name("manifest.json")
    if not manifest.is_file():
        return
    try:
        expected = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PredictError(f"{manifest} cannot be read ({_first_line(error)}): copy it again from where it was exported") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise PredictError(
            f"{model} is not the file in {manifest.name} (sha256 {found[:12]}, not {str(expected)[:12]}): copy the bundle again"
        )


def _batch(port: Any, images: list[Path]) -> Any:
    """All images in one array, N x H x W x C, uint8."""
    _, height, width, channels = port.shape if len(port.shape) == 4 else (0, 0, 0, 0)
    if port.type != "tensor(uint8)" or channels not in MODES or not isinstance(height, int) or not isinstance(width, int):
        raise PredictError(f"the model takes {port.type} {port.shape}, but must take uint8 N x H x W x 1 or 3: use an image model")
    return np.stack([_pixels(path, (width, height), channels) for path in images])


def _pixels(path: Path, size: tuple[int, int], channels: int) -> Any:
    """The image upright, in the model's colours and size: H x W x C, uint8."""
    try:
        with Image.open(path) as image:
            side = 2 * max(size)
            image.draft(MODES[channels], (side, side))  # a JPEG is decoded at a half, quarter or eighth where that leaves twice the size
            resized = _converted(path, ImageOps.exif_transpose(image), MODES[channels]).resize(size, Image.Resampling.BILINEAR)
    except FileNotFoundError as error:
        raise PredictError(f"there is no image at {path}: check the path") from error
    except (*UNDECODABLE, Image.DecompressionBombError) as error:
        raise PredictError(f"{path} cannot be decoded ({_first_line(error)}): give an image that Pillow reads") from error
    return np.asarray(resized, dtype=np.uint8).reshape(size[1], size[0], channels)


def _converted(path: Path, image: Image.Image, mode: str) -> Image.Image:
    if image.mode in ("I", "F"):
        raise PredictError(f"{path} has 32-bit pixels (mode {image.mode}) without an agreed scale: save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # Pillow warns when a palette with transparency loses it in one step
    return image.convert(mode)


def _probabilities(session: onnxruntime.InferenceSession, batch: Any) -> Any:
    names = [output.name for output in session.get_outputs()]
    wanted = "probabilities" if "probabilities" in names else names[0]
    answer = session.run([wanted], {session.get_inputs()[0].name: batch})[0]
    if answer.ndim != 2 or not np.isfinite(answer).all():
        raise PredictError(f"the model answers with {list(answer.shape)} numbers, not all usable as N x classes: export and check it again")
    if wanted == "probabilities":
        return answer
    powers = np.exp(answer - answer.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _class_names(metadata: dict[str, str], count: int) -> list[str]:
    try:
        names = [str(name) for name in json.loads(metadata.get("classes", json.dumps(list(range(count)))))]
    except (TypeError, ValueError) as error:
        raise PredictError("the model's classes are not a JSON list: export it again") from error
    if len(names) != count:
        raise PredictError(f"the model names {len(names)} classes and answers for {count}: export it again")
    return names


def _answer(path: Path, row: Any, names: list[str], top: int) -> dict[str, Any]:
    # Stable, so that equal probabilities come in the order of the classes everywhere.
    best = np.argsort(-row, kind="stable")[:top]
    ranking = [{"class": names[index], "probability": float(row[index])} for index in best]
    return {"path": str(path), **ranking[0], "top": ranking}


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


if __name__ == "__main__":
    sys.exit(main())
