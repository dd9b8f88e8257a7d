"""The stages of a chain: the export, the training and the search, each held to dvc.lock, to what it says itself, and to the one before."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from export.bill import FILE
from flows.records import RESTORE, as_written
from flows.run_folder import fingerprint
from flows.why.chain import Link, counted
from flows.why.evidence import Evidence, of_stage, untold

_AGAIN = "one of the two was altered; `nasflow run` makes both again"


def exported(evidence: Evidence) -> Link:
    """How the trained network became the file."""
    manifest = evidence.record("export/manifest.json")
    broken, unchecked = of_stage(evidence, "export", ("model.onnx", "manifest.json", "lineage.json", "variants", FILE))
    broken += _weights(evidence, manifest) + _bill(evidence, manifest)
    facts = []
    if manifest:
        latency = manifest["latency"]
        facts = [
            ("ships", str(manifest["why"])),
            ("scores", ", ".join(f"{name} {value:.4f}" for name, value in manifest["test"].items()) + " on test"),
            ("latency", f"{latency['ms']:.3g} ms ({latency['low']:.3g} to {latency['high']:.3g}) on {latency['processor']}"),
            ("parity", f"{manifest['parity']['agreement']:.2%} of {manifest['parity']['examples']} test images as PyTorch"),
            ("made with", ", ".join(f"{name} {number}" for name, number in manifest["versions"].items())),
        ]
    return Link("export", "exported from the trained network, and checked against it", facts, broken, unchecked)


def trained(evidence: Evidence) -> Link:
    """How the weights came about."""
    winner, details = evidence.record("train/architecture.json"), evidence.record("train/details.json")
    broken, unchecked = of_stage(evidence, "train", ("model.safetensors", "lineage.json"))
    told = evidence.record("export/manifest.json").get("metadata", {})
    broken += [*_told(told, winner, ("train", "seed")), *_named(winner, "train", "results/train/architecture.json")]
    facts = []
    if winner and details:
        metric, seeds = details["metric"], details["seeds"]
        facts = [
            ("run", f"train-{winner.get('train', '?')}"),
            ("seeds", f"{', '.join(name.removeprefix('seed_') for name in seeds)}; seed {winner['seed']} ships"),
            ("settings", _settings(winner, "train", ("epochs", "use_confirm"))),
            ("score", f"{metric} {details['test'][metric]:.4f} on test, {_mean(len(seeds))}"),
        ]
    return Link("train", "the architecture was trained in full", facts, broken, unchecked)


def decided(evidence: Evidence) -> Link:
    """What the architecture is, and that the search offered it."""
    winner, best = evidence.record("train/architecture.json"), evidence.record("search/best.json")
    told, broken = evidence.record("export/manifest.json").get("metadata", {}), []
    if not winner:
        return Link("architecture", "the architecture is not known", (), (), untold("train/architecture.json"))
    if told and json.loads(told["architecture"]) != winner["architecture"]:
        broken.append(f"the model's metadata name another architecture than results/train/architecture.json: {_AGAIN}")
    broken += _told(told, winner, ("trial", "canonical"))
    offered = [best, *_candidates(evidence)] if best else []
    same = [one for one in offered if one["trial"] == winner["trial"]]
    if offered and not same:
        broken.append(f"trial {winner['trial']} is not among what the search offers: the search was made again since; run `nasflow run`")
    if same and any(one["architecture"] != winner["architecture"] for one in same):
        broken.append(
            f"trial {winner['trial']} has another architecture in results/search than in results/train/architecture.json: {_AGAIN}"
        )
    facts = [(name, option) for name, option in winner["architecture"].items()]
    place = "the winner" if best and best["trial"] == winner["trial"] else "a candidate, chosen by train.trial"
    return Link("architecture", f"{place} of the search, in the space {winner['space']['name']}", facts, broken)


def searched(evidence: Evidence) -> Link:
    """How the architecture was found."""
    winner, best = evidence.record("train/architecture.json"), evidence.record("search/best.json")
    broken, unchecked = of_stage(evidence, "search", ("candidates.json", "trials.csv", "lineage.json"))
    told = evidence.record("export/manifest.json").get("metadata", {})
    broken += [*_told(told, best, ("search",)), *_named(best, "search", "results/search/best.json")]
    if best and winner and best["search"] != winner["search"]:
        broken.append(f"the winner was found by search {winner['search']}, but results/search holds {best['search']}: run `nasflow run`")
    facts = []
    if best:
        inputs = best.get("inputs", {}).get("search", {})
        last = inputs["settings"][-1] if inputs.get("settings") else {}
        facts = [
            ("run", f"search-{best['search']}"),
            ("strategy", _named_settings(best.get("strategy", last.get("strategy", {})))),
            ("evaluator", _named_settings(last.get("evaluator", {}), ("steps", "epochs", "measure"))),
            ("objective", _objective(best["objective"])),
            ("seed", f"{last.get('seed', '?')}, {last.get('workers', '?')} at once"),
        ]
        if len(inputs.get("settings", ())) > 1:
            facts.append(("before it", f"{counted(len(inputs['settings']) - 1, 'earlier search', 'earlier searches')} of the same section"))
    return Link("search", "found by a search", facts, broken, unchecked)


def _mean(trainings: int) -> str:
    return f"the mean of {trainings} trainings" if trainings > 1 else "of the only training"


def _candidates(evidence: Evidence) -> list[dict[str, Any]]:
    try:
        offered: list[dict[str, Any]] = json.loads((evidence.root / "results/search/candidates.json").read_text())
    except (OSError, ValueError):
        return []  # which the link of the search says
    return offered


def _weights(evidence: Evidence, manifest: Mapping[str, Any]) -> list[str]:
    path = evidence.root / "results/train/model.safetensors"
    told = manifest.get("metadata", {}).get("weights_sha256")
    if told is None or not path.exists():
        return []
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    what = "the model's metadata name weights with the SHA-256"
    return [] if found == told else [f"{what} {told[:16]}, but results/train/model.safetensors has {found[:16]}: {_AGAIN}"]


def _bill(evidence: Evidence, manifest: Mapping[str, Any]) -> list[str]:
    """Whether the bill of materials is about the same file; that it is missing is said where dvc.lock is compared."""
    path = evidence.root / "results/export" / FILE
    if not path.exists() or not manifest:
        return []
    try:
        named = json.loads(path.read_text())["metadata"]["component"]["version"]
    except (ValueError, KeyError, TypeError):
        return [f"results/export/{FILE} is not the bill of materials that the export wrote: {RESTORE}"]
    return (
        []
        if named == manifest["sha256"]
        else [f"results/export/{FILE} is about the file {named[:16]}, not {manifest['sha256'][:16]}: {RESTORE}"]
    )


def _told(told: Mapping[str, str], record: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    """Where the model's own metadata say something else than a record."""
    for name in names:
        if name in told and name in record and told[name] != str(record[name]):
            yield f"the model's metadata say {name} {told[name][:40]}, the results say {str(record[name])[:40]}: {_AGAIN}"


def _named(record: Mapping[str, Any], stage: str, path: str) -> Iterator[str]:
    """Whether the name of a run is the digest of the inputs beside it."""
    inputs = record.get("inputs", {}).get(stage)
    if inputs is not None and fingerprint(inputs) != record[stage]:
        yield f"{path} names the run {record[stage]}, but the inputs in it have the digest {fingerprint(inputs)}: it was altered; {RESTORE}"


def _settings(record: Mapping[str, Any], stage: str, names: tuple[str, ...]) -> str:
    settings = record.get("inputs", {}).get(stage, {}).get("settings", {})
    return ", ".join(f"{name} {as_written(settings[name])}" for name in names if name in settings) or "not recorded"


def _named_settings(component: Mapping[str, Any], names: tuple[str, ...] | None = None) -> str:
    told = [f"{name} {as_written(value)}" for name, value in component.items() if name != "name" and (names is None or name in names)]
    return ", ".join([str(component.get("name", "not recorded")), *told])


def _objective(objective: Mapping[str, Any]) -> str:
    bounds = [f"{name} {as_written(bound)}" for name, bound in objective.get("constraints", {}).items()]
    return "; ".join([f"metrics {', '.join(objective['metrics'])}", *bounds])
