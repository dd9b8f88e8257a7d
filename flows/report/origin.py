"""Where the file comes from: each link from its bytes back to the data, as the results record it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from flows import results
from flows.report.facts import Facts
from flows.report.html import Markup, Section, Table, element, note
from flows.report.words import count, figure, settings
from nas.ancestry import ancestors, changed

_LATEST = 8
"""So many trials of a family are shown at most."""


def section(facts: Facts) -> Section:
    """The chain as a table, the way to the winner, and all settings to unfold."""
    chain = Table("From the file to the data", ("link", "what", "identity"), list(links(facts)))
    way = Table("What it descends from", ("trial", facts.measure, "made from", "what is new in it"), list(steps(facts)))
    parts: list[Markup] = [element("div", {"class": "stacked"}, chain.html())]
    if way.rows:
        parts += [
            way.html(),
            note(
                f"The strategy says what it made a proposal from; what was drawn by chance is made from none. At most {_LATEST} trials are "
                "shown, the nearest to what ships; ",
                element("code", None, "nasflow why"),
                " tells the whole chain, and whether each link holds.",
            ),
        ]
    return Section("origin", "Where it comes from", [*parts, *_unfold(facts)], [chain, *([way] if way.rows else [])])


def links(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Every link of the chain, the file first."""
    manifest, metadata, dataset, search = facts.manifest, facts.manifest["metadata"], facts.dataset, facts.search
    yield "file", "results/export/model.onnx", f"sha256 {manifest['sha256']}"
    floats = manifest.get("variants", {}).get("float", manifest)["graph"]  # of which a quantized file is made
    same = "the structure that the search timed" if manifest.get("timed_in_search") == floats else "not timed in the search"
    yield "graph", same, manifest["graph"]
    yield "weights", f"seed {metadata['seed']} of {count(len(facts.details['seeds']), 'training')}", f"sha256 {metadata['weights_sha256']}"
    yield "training", *_run(facts.lineages["train"], "results/train")
    yield "trial", f"trial {metadata['trial']} of {len(facts.trials)}", "\n".join(results.parts(facts.shipped["decisions"]))
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
    """What ships and the trials that it descends from, the oldest first, each with what it was made from and what is new in it."""
    rows = {row.number: row for row in facts.trials}
    family = ancestors({row.number: row.made_from for row in facts.trials}, int(facts.shipped["trial"]))
    for number in sorted(list(family)[:_LATEST]):
        row, sources = rows[number], [rows[source] for source in family[number] if source in rows]
        value = figure(row.metrics[facts.measure]) if facts.measure in row.metrics else ""
        new = changed(row.architecture, [source.architecture for source in sources])
        edits = [f"{name} {before} to {option}" for name, (before, option) in new.items()]
        shown = "; ".join(edits[:4]) + (f"; and {len(edits) - 4} more" if len(edits) > 4 else "")
        named = " and ".join(f"trial {source}" for source in family[number])
        yield str(number), value, named or "none", (shown or "nothing") if sources else "all of it"


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
