"""The bill of materials is CycloneDX 1.6 by its published schema, and says of the model what the manifest says."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from export.bill import Step, bill

SHIPPED = Path(str(files("cyclonedx.schema") / "_res"))
DIGEST = "ab" * 32
MANIFEST: dict[str, Any] = {
    "sha256": DIGEST,
    "inputs": [{"name": "images", "dtype": "uint8", "shape": ["batch", 8, 8, 1]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 10]}],
    "metadata": {
        "architecture": '{"width":"8"}',
        "space": '{"name": "chain"}',
        "task": '{"name": "image_classification"}',
        "nasflow": "0.1.0",
        "weights_sha256": "cd" * 32,
        "search": "0" * 16,
    },
    "versions": {"torch": "2.13.0+cpu", "onnx": "1.23.2"},
    "data_digest": "ef" * 32,
    "data": {"source": "digits", "counts": {"fit": 10, "test": 5}},
    "classes": ["a", "b"],
    "test": {"accuracy": 0.95},
    "latency": {"ms": 0.03, "low": 0.02, "high": 0.04, "processor": "a", "batch_size": 1, "threads": 1, "provider": "CPUExecutionProvider"},
    "ships": "int8",
    "variants": {"int8": {"sha256": DIGEST}, "float": {"sha256": "12" * 32}},
}
STEPS = [
    Step("prepare", "prepared", settings={"source": {"name": "digits"}}, writes=["data"]),
    Step("train", "trained", "train-0123456789abcdef", {"epochs": 3}, {"nas/trial.py": "0" * 32}, ["data"], ["weights"]),
    Step("export", "exported", reads=["weights"], writes=["model"]),
]


@pytest.fixture(scope="module")
def published() -> jsonschema.Draft7Validator:
    """The schema that CycloneDX publishes, with the two that it refers to, from a package; nothing is fetched."""
    schemas = {path.name.replace(".SNAPSHOT", ""): json.loads(path.read_text()) for path in SHIPPED.glob("*.schema.json")}
    base = "http://cyclonedx.org/schema/"
    registry: Registry[Any] = Registry().with_resources(
        (f"{base}{name}", Resource.from_contents(schema, DRAFT7)) for name, schema in schemas.items()
    )
    return jsonschema.Draft7Validator(schemas["bom-1.6.schema.json"], registry=registry)


@pytest.mark.parametrize("manifest", [MANIFEST, {name: MANIFEST[name] for name in ("sha256", "inputs", "outputs", "metadata", "versions")}])
def test_it_keeps_to_the_published_schema(published: jsonschema.Draft7Validator, manifest: dict[str, Any]) -> None:
    assert [error.message for error in published.iter_errors(json.loads(bill(manifest, STEPS)))] == []


def test_the_schema_refuses_what_is_no_bill(published: jsonschema.Draft7Validator) -> None:
    document = json.loads(bill(MANIFEST, STEPS))
    document["metadata"]["component"]["hashes"][0]["content"] = "not hexadecimal"
    document["formulation"][0]["workflows"][0]["tasks"][0].pop("uid")
    assert len(list(published.iter_errors(document))) >= 2


def test_it_names_the_model_its_materials_and_its_making() -> None:
    document = json.loads(bill(MANIFEST, STEPS))
    component = document["metadata"]["component"]
    assert component["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert component["modelCard"]["modelParameters"]["architectureFamily"] == "chain"
    assert {"type": "accuracy", "value": "0.95", "slice": "test"} in component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert [entry["name"] for entry in document["components"]] == ["digits", "model.safetensors", "variants/float.onnx", "onnx", "torch"]
    [workflow] = document["formulation"][0]["workflows"]
    assert [task["uid"] for task in workflow["tasks"]] == ["prepare", "train-0123456789abcdef", "export"]
    assert {"name": "nasflow:code:nas/trial.py", "value": "0" * 32} in workflow["tasks"][1]["properties"]
    assert workflow["taskDependencies"] == [{"ref": "train", "dependsOn": ["prepare"]}, {"ref": "export", "dependsOn": ["train"]}]


def test_every_reference_leads_somewhere() -> None:
    document = json.loads(bill(MANIFEST, STEPS))
    [workflow] = document["formulation"][0]["workflows"]
    known = {entry["bom-ref"] for entry in [document["metadata"]["component"], *document["components"], workflow, *workflow["tasks"]]}
    named = {part for entry in [*document["dependencies"], *workflow["taskDependencies"]] for part in (entry["ref"], *entry["dependsOn"])}
    used = [*(task["inputs"] for task in workflow["tasks"]), *(task["outputs"] for task in workflow["tasks"])]
    named |= {entry["resource"]["ref"] for entries in used for entry in entries if "resource" in entry}
    assert named <= known
    assert len(known) == 1 + len(document["components"]) + 1 + len(STEPS), "no name stands for two things"


def test_equal_arguments_give_equal_bytes_and_another_model_another_serial_number() -> None:
    assert bill(MANIFEST, STEPS) == bill(dict(reversed(MANIFEST.items())), STEPS)
    other = json.loads(bill({**MANIFEST, "sha256": "00" * 32}, STEPS))
    assert other["serialNumber"] != json.loads(bill(MANIFEST, STEPS))["serialNumber"]
