"""Does the model beside this file do here what it did where it was exported? python verify.py [--tolerance 1e-4] [--json]

Needs Python 3.10 or newer, numpy and onnxruntime, nothing else. Compares the SHA-256 of every file with manifest.json, runs the
examples of test_vectors.npz, and compares with the answers stored there. Exit code 0: all as it was; 1: something differs, which
is named; 2: it could not be checked, one sentence on stderr.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

VECTORS = "test_vectors.npz"


class VerifyError(Exception):
    """What keeps the bundle from being checked, and what to do about it."""


def main(arguments: list[str] | None = None) -> int:
    """Print what was found and return the exit code."""
    options = _options().parse_args(arguments)
    try:
        found = verify(options.folder, options.tolerance)
    except VerifyError as error:
        print(f"verify.py: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        print(*(found["problems"] or [f"{found['files']} files as exported, {found['examples']} examples answered as exported"]), sep="\n")
    return 1 if found["problems"] else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="verify.py", description="Check an exported model on this machine.")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="where the bundle is")
    parser.add_argument("--tolerance", type=float, default=None, help="allowed difference, relative to an example's largest number above 1")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return parser


def verify(folder: Path, tolerance: float | None = None) -> dict[str, Any]:
    """{"problems": sentences, "files": how many were compared, "examples": how many were run, "largest_difference"}.

    tolerance: None takes the one stored with the examples. Two answers a and b of one example agree when
    |a - b| <= tolerance * max(1, max|b|). Raises VerifyError when the manifest or the examples cannot be read.
    """
    digests = _manifest(folder)["files"]
    problems = [sentence for name in sorted(digests) if (sentence := _difference(folder / name, name, digests[name]))]
    result = {"problems": problems, "files": len(digests), "examples": 0, "largest_difference": 0.0}
    try:
        vectors = _vectors(folder / VECTORS)
        answers = _run(folder / "model.onnx", vectors)
    except VerifyError as error:
        if not problems:
            raise
        return {**result, "problems": [*problems, str(error)]}
    largest, sentences = _judge(answers, vectors, float(vectors["tolerance"]) if tolerance is None else tolerance)
    examples = max(len(answer) for answer in answers.values())
    return {**result, "problems": problems + sentences, "examples": examples, "largest_difference": largest}


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest["files"], dict):
            raise TypeError("its files are not a mapping")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerifyError(f"{path} cannot be read ({_first_line(error)}): copy the bundle again") from error
    return manifest


def _difference(path: Path, name: str, expected: str) -> str | None:
    if not path.is_file():
        return f"{name} is missing: copy the bundle again"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    return None if found == expected else f"{name} is another file (sha256 {found[:12]}, not {str(expected)[:12]}): copy the bundle again"


def _vectors(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise VerifyError(f"there is no {path.name} at {path.parent}: copy the bundle again")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy and zipfile raise many things on a damaged file
        raise VerifyError(f"{path} cannot be read ({_first_line(error)}): copy the bundle again") from error


def _run(model: Path, vectors: dict[str, Any]) -> dict[str, Any]:
    """The model's answers to the examples, by output."""
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])
        inputs = {port.name: vectors[port.name] for port in session.get_inputs()}
        names = [output.name for output in session.get_outputs()]
        missing = [name for name in (*names, "tolerance") if name not in vectors]
        if missing:
            raise ValueError(f"{VECTORS} lacks {', '.join(missing)}")
        return {name: session.run([name], inputs)[0] for name in names}
    except Exception as error:  # onnxruntime has an exception class for each way in which a file can be unusable
        raise VerifyError(f"{model.name} does not run on the stored examples ({_first_line(error)}): copy the bundle again") from error


def _judge(answers: dict[str, Any], vectors: dict[str, Any], allowed: float) -> tuple[float, list[str]]:
    """The largest difference of an answer, and a sentence for every output that differs by more than is allowed."""
    largest, sentences = 0.0, []
    for name, answer in answers.items():
        wrong, difference = _compare(np.asarray(answer), vectors[name], allowed)
        largest = max(largest, difference)
        if wrong:
            sentences.append(
                f"{name} differs for {wrong} of {len(vectors[name])} examples, by up to {difference:.3g} (allowed {allowed:g})"
            )
    return largest, sentences


def _compare(answer: Any, expected: Any, tolerance: float) -> tuple[int, float]:
    """How many examples differ, and by how much at most; everything differs where the shapes do."""
    if answer.shape != expected.shape:
        return len(expected), float("inf")
    a, b = (part.astype(np.float64).reshape(len(part), -1) for part in (answer, expected))
    difference = np.nan_to_num(np.abs(a - b), nan=np.inf)
    wrong = (difference > tolerance * np.maximum(1, np.abs(b).max(axis=1, keepdims=True))).any(axis=1)
    return int(wrong.sum()), float(difference.max())


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


if __name__ == "__main__":
    sys.exit(main())
