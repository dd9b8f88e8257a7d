"""The ONNX file, exported once more from the weights that results/train hold."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import manifest_of
from export.check import ParityError, check
from export.to_onnx import to_onnx
from flows import lineage, records, settings, verify
from flows.records import as_written
from flows.settings import Export
from flows.stages import export as stage
from flows.variants import FLOAT
from flows.verify import Verdict
from nas.data.dataset import Dataset
from nas.process_start import pin_threads


def exported(root: Path) -> Verdict:
    """Export again and compare the SHA-256 with the manifest's; where it differs, the logits on all test images decide.

    The tolerance is the `export.tolerance` of the record. Raises RecordError when `results/export` or `results/train` holds no record.
    """
    pin_threads()
    results, trained = root / "results" / "export", root / "results" / "train"
    manifest = records.read(results / "manifest.json", "ships", "variants", "files", "data_digest")
    record, winner = records.read(results / "lineage.json", "params", "deps"), stage.winner_of(trained)
    chosen = verify.restored(Export, record["params"].get("export") or {})
    dataset = Dataset.open(root / "results" / "prepare", ["test"])
    changed = [*_causes(root, record, manifest, dataset)]
    task, module = stage.module_of(winner, trained, dataset)
    with tempfile.TemporaryDirectory(prefix="nasflow-verify-") as place:
        model = Path(place) / "model.onnx"
        provenance = stage.provenance_of(winner, trained, dataset)
        to_onnx(module, task.example(2), model, outputs=task.output_names, metadata=provenance, exporter=chosen.exporter)
        shipped = results / ("model.onnx" if manifest["ships"] == FLOAT else f"variants/{FLOAT}.onnx")
        answer, rows = _compare(shipped, manifest["variants"][FLOAT]["sha256"], manifest_of(model)["sha256"])
        if answer == "differs":
            images = dataset.as_bytes("test")
            try:
                before, after = (check(path, module, images, tolerance=chosen.tolerance)[1] for path in (shipped, model))
                answer, row = _logits(np.asarray(before), np.asarray(after), chosen.tolerance)
            except (ParityError, FileNotFoundError) as error:
                row = str(error)
            rows.append(("logits", row))
    if altered := _altered(results, manifest):
        answer = "differs"
        rows.append(("altered since", ", ".join(altered)))
    causes = [*(f"file: results/export/{name}" for name in altered), *changed]
    causes += verify.environment_changes(record.get("environments", ()), "cpu")
    present = Export.model_validate(settings.read(root).export).model_dump()
    others = [
        f"{name} {as_written(present[name])} now, {as_written(value)} in the record"
        for name, value in chosen.model_dump().items()
        if present[name] != value
    ]
    return Verdict("results/export/model.onnx, exported again", answer, rows, causes, others, chosen.tolerance)


def _altered(results: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The files of the bundle that are not what the manifest names, or gone."""
    return [
        name
        for name, digest in sorted(manifest["files"].items())
        if not (results / name).is_file() or hashlib.sha256((results / name).read_bytes()).hexdigest() != digest
    ]


def _compare(file: Path, recorded: str, again: str) -> tuple[verify.Answer, list[tuple[str, str]]]:
    """The bytes of the file that ships and of the new one; the manifest speaks for the first only when it is still that file."""
    shipped = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "nothing"
    rows = [("SHA-256, manifest", recorded), ("SHA-256, exported again", again)]
    if shipped != recorded:
        rows.append(("SHA-256, the file", f"{shipped}: it is not the file that the manifest names"))
    return "bit-identical" if recorded == again == shipped else "differs", rows


def _logits(before: Any, after: Any, tolerance: float) -> tuple[verify.Answer, str]:
    """How far apart the logits are, by the rule of `export.check`: relative to the largest logit of an image when that is above 1."""
    apart = np.abs(before - after)
    allowed = tolerance * np.maximum(1.0, np.abs(before).max(axis=1, keepdims=True))
    agreement = float((before.argmax(axis=1) == after.argmax(axis=1)).mean())
    words = f"{apart.max():.2g} apart at most, the same prediction for {agreement:.2%} of {len(before)} test images"
    return "equal within tolerance" if bool((apart <= allowed).all()) else "differs", words


def _causes(root: Path, record: Mapping[str, Any], manifest: Mapping[str, Any], dataset: Dataset) -> Iterator[str]:
    """What is not what it was: data, weights, code."""
    digest = dataset.description.digest
    if manifest["data_digest"] != digest:
        yield f"data: results/prepare holds {digest[:16]} now, not {manifest['data_digest'][:16]}"
    else:
        yield from verify.altered_data(root, record["deps"], ["test"])
    was, now = record["deps"], lineage.read(root, "export")["deps"]
    for path in dict.fromkeys([*was, *now]):
        if not path.startswith("results/prepare/") and was.get(path) != now.get(path):
            kind = "code" if path.split("/")[0] in ("nas", "export", "flows") else "file"
            yield f"{kind}: {path}"
