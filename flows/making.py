"""The steps that made a model, for the bill of materials that ships with it: what determined each, as far as the winner's record tells."""

from collections.abc import Mapping
from typing import Any

from export.bill import FILE, Step, bill
from nas.data.dataset import Description

_WORDS = {
    "prepare": "the user's files became one prepared dataset",
    "search": "architectures were proposed, evaluated and scored; the best of the finalists won",
    "train": "the winner was trained in full from several seeds; the weights that were best on held-out data ship",
    "export": "the trained network became an ONNX file, which was checked against PyTorch on all test data",
}


def provenance(manifest: Mapping[str, Any], winner: Mapping[str, Any], data: Description, record: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the bill of materials by its file's name.

    `winner`: as architecture.json holds it. `record`: what the export stage read at its start. Neither a time nor the commit of the
    working copy is in it: equal inputs give equal bytes, and `nasflow why` finds the commit.
    """
    inputs = winner.get("inputs", {})
    counts = {"classes": len(data.classes), "counts": data.counts, "input_shape": list(data.input_shape)}
    steps = [
        Step("prepare", _WORDS["prepare"], None, {"source": _without_path(data.source), **counts}, writes=["data"]),
        _of_run("search", winner, inputs, {key: winner[key] for key in ("strategy", "objective", "ancestors") if key in winner}),
        _of_run("train", winner, inputs, {"seed": winner["seed"], "task": winner["task"], "architecture": winner["architecture"]}),
        Step(
            "export",
            _WORDS["export"],
            None,
            {name: values for name, values in record.get("params", {}).items() if name in ("export", "target")},
            {path: digest for path, digest in record.get("deps", {}).items() if not path.startswith("results/")},
            ["data", "weights"],
            ["model"],
        ),
    ]
    return {FILE: bill(manifest, steps)}


def _of_run(stage: str, winner: Mapping[str, Any], inputs: Mapping[str, Any], more: Mapping[str, Any]) -> Step:
    """A step whose inputs have a name of their own, which is their digest."""
    known = inputs.get(stage, {})
    settings = {"settings": known["settings"], **more} if "settings" in known else more
    writes = ["weights"] if stage == "train" else []
    return Step(
        stage, _WORDS[stage], f"{stage}-{winner[stage]}" if stage in winner else None, settings, known.get("code", {}), ["data"], writes
    )


def _without_path(source: Mapping[str, Any]) -> dict[str, Any]:
    """The source without the place of the data, which is nobody else's business."""
    return {name: value for name, value in source.items() if not name.startswith("path")}
