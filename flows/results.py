"""The summary a person reads at the end of a run, from what the stages published."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import console

PLOTS = ("search/progress.png", "train/training.png", "train/confusion.png")


def show(root: Path) -> None:
    """Print the winner, its scores, the file and the plots. Raises ValueError when there are no results yet."""
    results = root / "results"
    try:
        best, trained, manifest = (_read(results / name) for name in ("search/best.json", "train/details.json", "export/manifest.json"))
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} does not exist: run `nasflow run` first") from error
    rows = [("best architecture", words(best)), ("parameters", f"{best['metrics']['select']['parameters']:,.0f}")]
    rows += scores(trained)
    rows += [
        ("model", f"{manifest['bytes'] / 1024:.0f} KiB, same predictions as PyTorch on {manifest['parity']['examples']} test images"),
        ("file", str(results / "export" / "model.onnx")),
        ("try it", f"python {results / 'export' / 'predict.py'} IMAGE"),
        ("plots", "\n".join(str(results / name) for name in PLOTS if (results / name).exists())),
    ]
    console.table("nasflow", rows)


def words(best: Mapping[str, Any]) -> str:
    """Return the winner of best.json for a person: decisions that matter, one line per part of the network."""
    architecture: dict[str, str] = best["architecture"]
    # A canonical form that is a set of answers leaves out the questions that other answers made pointless.
    if best["canonical"].startswith("{"):
        architecture = {name: option for name, option in architecture.items() if name in json.loads(best["canonical"])}
    parts: dict[str, list[str]] = {}
    for name, option in architecture.items():
        part, _, decision = name.rpartition(".")
        parts.setdefault(part, []).append(f"{decision} {option}")
    lines = [f"{part}: {', '.join(answers)}" if part else ", ".join(answers) for part, answers in parts.items()]
    return "\n".join([f"space {best['space']['name']}", *lines])


def scores(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a person wants to know of train's details.json, as rows of a table."""
    name, comparison, searched = metrics["metric"], metrics["comparison"], metrics["search"]
    return [
        ("search score", f"{name} {searched['select']:.4f} on select, {searched['confirm']:.4f} on confirm"),
        ("retrained", f"{name} {metrics['test'][name]:.4f} ± {metrics['test_std'][name]:.4f} on test, {len(metrics['seeds'])} seeds"),
        ("against search", f"{comparison['difference']:+.4f}, noise ±{comparison['noise']:.4f}: {comparison['verdict']}"),
        ("ships", f"seed {metrics['shipped']['seed']}, {name} {metrics['shipped'][name]:.4f} on test"),
    ]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content
