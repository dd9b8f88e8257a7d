"""Where a model comes from, as other tools read it: a bill of materials in CycloneDX 1.6, with a model card and its making.

https://cyclonedx.org/docs/1.6/json: the model and its twins, the data, the weights and the libraries are components, and every step
that led to the file is a task of one workflow (`formulation`), with its settings and the digests of its code.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, final

FILE = "provenance.cdx.json"
"""The name that tools know a CycloneDX file by ends so."""
_MODEL, _DATA, _WEIGHTS, _WORKFLOW = "model", "data", "weights", "pipeline"
Entry = dict[str, Any]


@final
@dataclass(frozen=True)
class Step:
    """One step that led to the model. run: what names its inputs, None where nothing does. settings: JSON values by name. code: digests
    by path. reads, writes: which of `data`, `weights` and `model` it took and made."""

    name: str
    description: str
    run: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    reads: Sequence[str] = ()
    writes: Sequence[str] = ()


def bill(manifest: Mapping[str, Any], steps: Sequence[Step]) -> bytes:
    """The file as JSON; equal arguments give equal bytes, for it holds neither a time nor a random number.

    manifest: as `export.bundle.write_bundle` takes it, with `data_digest`, `data`, `classes`, `test`, `variants` and `ships` where they
    are known. steps: in the order in which they ran.
    """
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, 'sha256:' + manifest['sha256'])}",
        "version": 1,
        "metadata": {
            "component": _model(manifest),
            "tools": {"components": [{"type": "application", "name": "nasflow", "version": manifest["metadata"].get("nasflow", "")}]},
        },
        "components": [*_materials(manifest), *_twins(manifest), *_libraries(manifest)],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": [_WEIGHTS, *(entry["bom-ref"] for entry in _libraries(manifest))]},
            {"ref": _WEIGHTS, "dependsOn": [_DATA]},
        ],
        "formulation": [{"workflows": [_workflow(steps)]}],
    }
    return (json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _model(manifest: Mapping[str, Any]) -> Entry:
    metadata = manifest["metadata"]
    told = {name: metadata[name] for name in sorted(metadata) if name not in ("classes", "architecture")}
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": "model.onnx",
        "version": manifest["sha256"],
        "hashes": _hashes(manifest["sha256"]),
        "modelCard": {"modelParameters": _parameters(manifest), "quantitativeAnalysis": {"performanceMetrics": [*_metrics(manifest)]}},
        "properties": _properties(told),
    }


def _parameters(manifest: Mapping[str, Any]) -> Entry:
    metadata = manifest["metadata"]
    task, space = (json.loads(metadata.get(name, "{}")).get("name", "") for name in ("task", "space"))
    return {
        "approach": {"type": "supervised"},
        "task": task.replace("_", " "),
        "architectureFamily": space,
        "modelArchitecture": metadata.get("architecture", ""),
        "datasets": [{"ref": _DATA}],
        "inputs": [{"format": _port(port)} for port in manifest["inputs"]],
        "outputs": [{"format": _port(port)} for port in manifest["outputs"]],
    }


def _port(port: Mapping[str, Any]) -> str:
    return f"{port['name']}: {port['dtype']}, {' x '.join(map(str, port['shape']))}"


def _metrics(manifest: Mapping[str, Any]) -> Iterator[Entry]:
    for name, value in manifest.get("test", {}).items():
        yield {"type": name, "value": f"{value:.6g}", "slice": "test"}
    latency = manifest.get("latency", {})
    if "ms" in latency:
        interval = {"lowerBound": f"{latency['low']:.6g}", "upperBound": f"{latency['high']:.6g}"}
        where = f"{latency['processor']}, batch {latency['batch_size']}, threads {latency['threads']}, {latency['provider']}"
        yield {"type": "latency_ms", "value": f"{latency['ms']:.6g}", "slice": where, "confidenceInterval": interval}


def _materials(manifest: Mapping[str, Any]) -> Iterator[Entry]:
    data, metadata = manifest.get("data", {}), manifest["metadata"]
    told = {"data_digest": manifest.get("data_digest", ""), **{f"images in {split}": count for split, count in _counts(data)}}
    classes = f"{len(manifest.get('classes', ()))} classes"
    yield {
        "type": "data",
        "bom-ref": _DATA,
        "name": data.get("source", "data"),
        "data": [{"type": "dataset", "name": "prepared data", "description": classes, "contents": {"properties": _properties(told)}}],
    }
    yield {"type": "file", "bom-ref": _WEIGHTS, "name": "model.safetensors", "hashes": _hashes(metadata.get("weights_sha256", ""))}


def _counts(data: Mapping[str, Any]) -> Sequence[tuple[str, int]]:
    return list(data.get("counts", {}).items())


def _twins(manifest: Mapping[str, Any]) -> Iterator[Entry]:
    """The variants of the model that do not ship as model.onnx."""
    for name, found in manifest.get("variants", {}).items():
        if name != manifest.get("ships"):
            yield {
                "type": "machine-learning-model",
                "bom-ref": f"variant-{name}",
                "name": f"variants/{name}.onnx",
                "hashes": _hashes(found["sha256"]),
            }


def _libraries(manifest: Mapping[str, Any]) -> list[Entry]:
    return [
        {"type": "library", "bom-ref": name, "name": name, "version": number, "purl": f"pkg:pypi/{name}@{number.replace('+', '%2B')}"}
        for name, number in sorted(manifest["versions"].items())
    ]


def _hashes(digest: str) -> list[Entry]:
    return [{"alg": "SHA-256", "content": digest}] if digest else []


def _properties(told: Mapping[str, Any]) -> list[Entry]:
    return [{"name": f"nasflow:{name}", "value": value if isinstance(value, str) else json.dumps(value)} for name, value in told.items()]


def _workflow(steps: Sequence[Step]) -> Entry:
    return {
        "bom-ref": _WORKFLOW,
        "uid": _WORKFLOW,
        "name": "from data to a deployable file",
        "taskTypes": ["build"],
        "tasks": [_task(step) for step in steps],
        "taskDependencies": [{"ref": after.name, "dependsOn": [before.name]} for before, after in pairwise(steps)],
    }


def _task(step: Step) -> Entry:
    parameters = [{"name": name, "value": json.dumps(value, sort_keys=True), "dataType": "json"} for name, value in step.settings.items()]
    told = {**({} if step.run is None else {"run": step.run}), **{f"code:{path}": digest for path, digest in sorted(step.code.items())}}
    return {
        "bom-ref": step.name,
        "uid": step.run or step.name,
        "name": step.name,
        "description": step.description,
        "taskTypes": ["build"],
        "inputs": [*({"resource": {"ref": read}} for read in step.reads), *([{"parameters": parameters}] if parameters else [])],
        "outputs": [{"type": "artifact", "resource": {"ref": written}} for written in step.writes],
        "properties": _properties(told),
    }
