"""Whether the exported model replaces the one in use: only where it is better on the same confirm data by more than noise.

Both files answer the confirm images that are prepared now, so that data which have changed since the release count for both. The
candidate has met the constraints, or `export` would not have published it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export import files
from export.scoring import answers
from flows import lineage, locks, records, released
from flows.released import Decision
from nas.components import restore
from nas.data.dataset import Dataset
from nas.objective import Objective
from nas.paired import LEVEL, Paired, by_hits, by_resampling
from nas.tasks.base import Task

_HITS = "accuracy"
_ORIGIN = ("search", "trial", "seed", "data_digest")


def promote(root: Path, anyway: bool = False) -> Decision:
    """Decide about the model in results/export, carry the decision out, and return it; whoever calls holds the project's lock.

    anyway: release it without a comparison, because a person says so. Raises ValueError when the export is missing or is not what
    dvc.lock says, or the released model is not what was released.
    """
    bundle = root / "results" / "export"
    manifest = _manifest(bundle)
    differences = lineage.verify(root, "export")
    if differences:
        raise ValueError(f"results/export cannot be released: {' '.join(differences)}")
    used = released.current(root)
    before = None if used is None else _manifest(used)
    facts: dict[str, Any] = {"sha256": manifest["sha256"], "when": locks.now(), "replaces": "" if before is None else before["sha256"]}
    facts["origin"] = {name: str(manifest["metadata"][name]) for name in _ORIGIN if name in manifest["metadata"]}
    if before is None or used is None:
        decision = Decision(True, "nothing was released before", **facts)
    elif before["sha256"] == manifest["sha256"]:
        decision = Decision(False, "it is the model that was exported", **facts)
    elif anyway:
        decision = Decision(True, "somebody decided so, without a comparison", **facts)
    else:
        decision = _decided(root, (used, before), manifest, facts)
    if decision.sha256 != decision.replaces:
        released.place(root, bundle, decision)
    released.note_last(root, decision)
    return decision


def _decided(root: Path, used: tuple[Path, Mapping[str, Any]], manifest: Mapping[str, Any], facts: dict[str, Any]) -> Decision:
    folder, before = used
    obstacle = _incomparable(root, before, manifest)
    if obstacle is not None:
        return Decision(False, f"{obstacle}; `nasflow promote --anyway` releases it all the same", **facts)
    winner = records.read(root / "results" / "train" / "architecture.json", "task", "objective", "metric", "sign")
    dataset = Dataset.open(root / "results" / "prepare", ["confirm"])
    task: Task = restore("tasks", winner["task"]).bind(dataset.description)
    images, targets = dataset.as_bytes("confirm"), torch.from_numpy(np.array(dataset.targets("confirm")))
    logits = [torch.from_numpy(answers(path / "model.onnx", images)) for path in (folder, root / "results" / "export")]
    scores = [task.metrics(found, targets) for found in logits]
    broken = Objective.model_validate(winner["objective"]).broken({**scores[0], **_costs(before)})
    metric = winner["metric"] if winner["metric"] in scores[0] else task.metric_names[0]
    sign = winner["sign"] if metric == winner["metric"] else 1
    found = _compare(task, metric, sign, logits, targets)
    comparison = {"metric": metric, "released": scores[0][metric], "candidate": scores[1][metric]}
    comparison |= {"examples": found.examples, "probability": round(found.probability, 6)}
    if broken:
        return Decision(True, f"the released model misses what is demanded now ({'; '.join(broken)})", comparison=comparison, **facts)
    figures = f"{metric} {scores[1][metric]:.4f} against {scores[0][metric]:.4f} on {found.examples} confirm images"
    chance = f"equal models would differ so with probability {found.probability:.2g}"
    verdict = "better beyond noise" if found.better else ("within noise" if found.probability >= LEVEL else "worse beyond noise")
    return Decision(found.better, f"{figures}, {verdict}: {chance}", comparison=comparison, **facts)


def _compare(task: Task, metric: str, sign: int, logits: list[torch.Tensor], targets: torch.Tensor) -> Paired:
    """The second file against the first, greater is better."""
    if metric == _HITS:
        right: list[NDArray[np.bool_]] = [(found.argmax(1) == targets).numpy() for found in logits]
        return by_hits(*right)

    def score(found: torch.Tensor, drawn: NDArray[np.intp]) -> float:
        chosen = torch.from_numpy(drawn)
        return sign * task.metrics(found[chosen], targets[chosen])[metric]

    first, second = logits
    return by_resampling(lambda drawn: score(first, drawn), lambda drawn: score(second, drawn), len(targets), np.random.default_rng(0))


def _incomparable(root: Path, before: Mapping[str, Any], manifest: Mapping[str, Any]) -> str | None:
    """Why the two files cannot be compared; None when they can."""
    trained = records.read(root / "results" / "train" / "lineage.json", "params")
    if trained["params"].get("train", {}).get("use_confirm"):
        return "train.use_confirm trains on the confirm data, so that nothing is left to compare on"
    if before["classes"] != manifest["classes"]:
        return f"its {len(manifest['classes'])} classes are not the {len(before['classes'])} of the released model"
    if before["inputs"] != manifest["inputs"]:
        return f"it takes images of {manifest['inputs'][0]['shape'][1:]}, the released model of {before['inputs'][0]['shape'][1:]}"
    return None


def _costs(manifest: Mapping[str, Any]) -> dict[str, float]:
    """What the manifest of a file says that constraints may be about, by their names, as it was measured then."""
    if "measured_elsewhere" in manifest:  # whose latencies count is another question then
        return {"file_bytes": float(manifest["bytes"])}
    latency = manifest["latency"]
    costs = {"latency_ms": latency["ms"], "latency_ms_low": latency["low"], "latency_ms_high": latency["high"]}
    return costs | {"file_bytes": float(manifest["bytes"])}


def _manifest(bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle whose file is the one that it names."""
    try:
        manifest = records.read(bundle / "manifest.json", "sha256", "metadata")
    except records.MissingError as error:
        raise ValueError(f"{bundle} holds no exported model: run `nasflow run` first") from error
    if files.digest(bundle / "model.onnx") != manifest["sha256"]:
        raise ValueError(f"{bundle / 'model.onnx'} is not the file that its manifest names: export it again, or restore the folder")
    return manifest
