"""How a search measures its candidates as files: the deployment target, where measurements are kept, and what names them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from export.machine import this_machine
from export.quantize import QuantizeError
from export.session import MeasureError
from flows import console
from flows.costing import FOLDER, ROUGH, costing_of
from flows.provenance import NEAREST, code_of, descent, described
from flows.run_folder import fingerprint
from flows.searches import Search
from flows.settings import Settings
from flows.tracking import WORK
from nas import atomic
from nas.components import component_name, describe
from nas.evaluators.base import Bench
from nas.measured import Measured, Plan
from nas.preflight import preflight
from nas.tasks.base import Task
from nas.trial import LimitError, Trial

_NETWORKS = ("nas/networks", "nas/spaces", "nas/tasks")
"""What of the library decides what is in a file; the rest of it decides which file."""
Told = Callable[[Trial], dict[str, Any] | None]
"""What is known of a finalist beside its metrics; None where nothing is."""


def around(root: Path, settings: Settings, entry: Search, bench: Bench, record: Mapping[str, Any]) -> Measured | None:
    """The evaluator of a search, measuring what the search wants of files; None when it wants nothing."""
    wanted = entry.measured(bench.task)
    return _measured(root, settings, entry, bench, record, wanted) if wanted else None


def int8_of(root: Path, settings: Settings, entry: Search, bench: Bench, record: Mapping[str, Any]) -> Told:
    """Return what tells of a finalist how its int8 variant does on `confirm` and on this machine, or why there is none.

    It answers None where nobody wants to know, and where trials leave no network of their own to quantize.
    """
    task = bench.task
    if settings.export.int8 == "never" or not entry.measured(task) or "network" not in entry.evaluator.provides:
        return lambda trial: None
    times = frozenset(("latency_ms", "int8_latency_ms"))
    judge = _measured(root, settings, entry, bench, record, times | {f"int8_{name}" for name in task.metric_names})

    def told(trial: Trial) -> dict[str, Any]:
        try:
            with judge.measuring():
                found = {**judge.inspect(trial.proposal), **judge.reassess(trial, "confirm")}
        except (LimitError, QuantizeError, MeasureError) as error:
            return {"error": str(error)}
        ratio = found["int8_latency_ms"] / found["latency_ms"]
        return {"times": ratio, **{name.removeprefix("int8_"): value for name, value in found.items() if name.startswith("int8_")}}

    return told


def _measured(root: Path, settings: Settings, entry: Search, bench: Bench, record: Mapping[str, Any], wanted: frozenset[str]) -> Measured:
    # The search, the trial and its ancestors are not known yet; what stands for them is about as long, and hardly ever shorter.
    placeholders = {"search": "0" * 16, "train": "0" * 16, "trial": "00", "seed": "0", "weights_sha256": "0" * 64}
    placeholders |= descent(component_name(entry.strategy), {str(number): (100, 100) for number in range(100, 100 + NEAREST)})
    metadata = described(bench.space, bench.task, bench.dataset.description) | placeholders
    plan = Plan(costing_of(root, settings), _key(bench, settings, record, metadata), metadata)
    return Measured.around(entry.evaluator, bench, wanted, plan)


def inputs_of(settings: Settings, entries: tuple[Search, ...], task: Task) -> dict[str, Any]:
    """What else determines the trials of searches that measure files; nothing where none does."""
    wanted = sorted({name for entry in entries for name in entry.measured(task)})
    if not wanted:
        return {}
    found = {"measured": wanted, "target": settings.target.model_dump(), "exporter": settings.export.exporter}
    # Latencies of two machines must not meet in one search.
    return found | ({"machine": asdict(this_machine())} if any("latency" in name for name in wanted) else {})


def check_space(root: Path, settings: Settings, bench: Bench, record: Mapping[str, Any]) -> None:
    """Export a few networks of the space before any training. What passed once is not checked again. Raises PreflightError."""
    key = fingerprint({"preflight": _key(bench, settings, record, {})})
    passed = root / WORK / FOLDER / "preflight" / f"{key}.json"
    if passed.exists():
        return
    count = preflight(bench, settings.export.exporter, ROUGH)
    atomic.make_folder(passed.parent)
    atomic.write_json(passed, {"architectures": count})
    console.say(f"preflight: {count} networks that hold every option of the space export as they are")


def _key(bench: Bench, settings: Settings, record: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """Names what besides the architecture determines a file."""
    every = {**record.get("deps", {}), **code_of(record, bench.space, bench.task)}
    code = {path: digest for path, digest in every.items() if not path.startswith("nas/") or path in _NETWORKS}
    described = bench.dataset.description
    return json.dumps(
        {
            "space": describe(bench.space),
            "task": describe(bench.task),
            "input": [*described.input_shape, described.input_dtype, *described.byte_range],
            "exporter": settings.export.exporter,
            "tolerance": ROUGH,  # what was measured had kept to it
            "metadata": dict(metadata),
            "code": {path: digest for path, digest in code.items() if path.startswith(("nas/", "export/")) or ":" in path},
            "versions": {name: version(name) for name in ("torch", "onnx", "onnxruntime", "onnxscript")},
        },
        sort_keys=True,
    )
