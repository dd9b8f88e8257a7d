"""Where the file comes from: each link from its bytes back to the data, as the results record it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from flows.report.facts import Facts, Row
from flows.report.html import Markup, Section, Table, element, note
from flows.report.words import count, figure, settings

_LATEST = 8
"""So many steps of the way to the winner are shown at most."""


def section(facts: Facts) -> Section:
    """The chain as a table, the way to the winner, and all settings to unfold."""
    chain = Table("From the file to the data", ("link", "what", "identity"), list(links(facts)))
    way = Table("How the search came to it", ("trial", facts.measure, "nearest earlier trial", "edits"), list(steps(facts)))
    parts: list[Markup] = [chain.html()]
    if way.rows:
        parts += [
            way.html(),
            note(
                "Trials that were the best when they came, and what ships. The nearest earlier trial is the one with the fewest "
                "different choices; whether the strategy made the one from the other is not recorded."
            ),
        ]
    return Section("origin", "Where it comes from", [*parts, *_unfold(facts)], [chain, *([way] if way.rows else [])])


def links(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Every link of the chain, the file first."""
    manifest, metadata, dataset, search = facts.manifest, facts.manifest["metadata"], facts.dataset, facts.search
    yield "file", "results/export/model.onnx", f"sha256 {manifest['sha256']}"
    same = "the structure that the search timed" if manifest.get("timed_in_search") == manifest["graph"] else "not timed in the search"
    yield "graph", same, manifest["graph"]
    yield "weights", f"seed {metadata['seed']} of {count(len(facts.details['seeds']), 'training')}", f"sha256 {metadata['weights_sha256']}"
    yield "training", *_run(facts.lineages["train"], "results/train")
    yield "trial", f"trial {metadata['trial']} of {len(facts.trials)}", metadata["canonical"]
    yield "search", *_run(facts.lineages["search"], "results/search")
    yield "strategy", settings(search["strategy"]), f"seed {search['seed']}, {count(int(search['workers']), 'worker')}"
    yield "space", settings(search["space"]), "results/search/best.json"
    yield "evaluator", settings(search["evaluator"]), "results/search/lineage.json"
    counts = ", ".join(f"{name} {number}" for name, number in dataset["counts"].items())
    yield "data", f"{dataset['source']['name']}: {counts}", f"digest {dataset['digest']}"
    found: dict[tuple[str, str], list[str]] = {}
    for stage in ("search", "train", "export"):
        for entry in facts.lineages[stage].get("environments", []):
            found.setdefault(_environment(entry["environment"]), []).append(stage)
    for described, stages in found.items():
        yield f"environment of {', '.join(dict.fromkeys(stages))}", *described


def steps(facts: Facts) -> Iterator[tuple[str, str, str, str]]:
    """The trials that improved on all before them, up to what ships, each with its nearest earlier trial."""
    rows = {row.number: row for row in facts.trials}
    improved = [int(number) for number, _ in facts.telemetry["best_so_far"] if number <= facts.shipped["trial"]]
    for number in dict.fromkeys((*improved[-_LATEST:], int(facts.shipped["trial"]))):
        row = rows[number]
        earlier = [other for other in facts.trials if other.number < number and other.reused is None]
        value = figure(row.metrics[facts.measure]) if facts.measure in row.metrics else ""
        if not earlier:
            yield str(number), value, "none", "the first"
            continue
        nearest = min(earlier, key=lambda other: (len(_edits(other, row)), -other.number))
        edits = _edits(nearest, row)
        shown = "; ".join(edits[:4]) + (f"; and {len(edits) - 4} more" if len(edits) > 4 else "")
        yield str(number), value, f"trial {nearest.number}, {count(len(edits), 'edit')}", shown


def _edits(one: Row, other: Row) -> list[str]:
    return [
        f"{name} {one.architecture[name]} to {option}" for name, option in other.architecture.items() if one.architecture[name] != option
    ]


def _run(lineage: Mapping[str, Any], place: str) -> tuple[str, str]:
    return ", ".join(lineage.get("runs", [])) or "not recorded", f"{place}/lineage.json"


def _environment(found: Mapping[str, Any]) -> tuple[str, str]:
    libraries = ("python", "torch", "numpy", "onnx", "onnxruntime")
    where = f"{found['device']}, {found.get('gpu') or found['processor']}, {count(int(found['threads']), 'thread')}"
    return ", ".join(f"{name} {found[name]}" for name in libraries if name in found), where


def _unfold(facts: Facts) -> Iterator[Markup]:
    """What is too long for a table: all settings as each stage read them."""
    for stage, lineage in facts.lineages.items():
        if lineage.get("params"):
            text = json.dumps(lineage["params"], indent=2, sort_keys=True)
            yield element("details", None, element("summary", None, f"Settings of {stage}"), element("pre", None, text))
