"""`nasflow stage export`: the file takes a user's bytes whatever the data are stored as, and a failure publishes nothing."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from small_images import CPU, one_thread
from stage_project import SEARCH, StageProject, make_stage_project

from export import predict, verify
from export.web.runtime import Runtime
from flows import gate, lineage
from flows.stages import export as stage
from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.spaces.chain import Chain
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Limits
from nas.training.loop import Training, load_examples, outputs_of
from nas.training.recipe import Recipe

__all__ = ["one_thread"]
BYTES = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
TARGETS = load_digits().target
SCALED = {
    "bytes": BYTES,
    "0..1": (BYTES / 255).astype(np.float32),
    "0..255": BYTES.astype(np.float32),
    "-1..1": (BYTES / 127.5 - 1).astype(np.float32),
    "0..16": load_digits().images.astype(np.float32),
    "standardised": ((BYTES - BYTES.mean()) / BYTES.std()).astype(np.float32),
}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageProject:
    """A project in the current folder."""
    monkeypatch.chdir(tmp_path)
    return make_stage_project(tmp_path)


def prepared(small: StageProject, pixels: np.ndarray, **export: Any) -> Dataset:
    """Run prepare on an archive of the digits."""
    np.savez(small.root / "digits.npz", x=pixels, y=TARGETS)
    small.choose({"name": "npz", "path": "digits.npz"}, export={"int8": "never", **export})
    answer = small.stage("prepare")
    assert answer.code == 0, answer.errors
    return Dataset.open(small.root / "results" / "prepare")


def trained(small: StageProject, dataset: Dataset, steps: int) -> float:
    """Put into results/train what train puts there, from a short training; returns the accuracy on the stored test data."""
    settings: dict[str, Any] = dict(SEARCH["space"])  # type: ignore[call-overload]
    name = settings.pop("name")
    space, task = Chain.model_validate(settings), ImageClassification().bind(dataset.description)
    architecture = Architecture({choice.name: choice.options[0] for choice in space.choices(task)})
    torch.manual_seed(0)
    recipe = Recipe.model_validate({"learning_rate": 0.1})
    training = Training(space.build(architecture, task), task, recipe, total=max(steps, 1), seed=0, device=CPU)
    fit, test = (load_examples([(dataset.inputs(split), dataset.targets(split))], CPU) for split in ("fit", "test"))
    with Limits().watch(CPU) as guard:
        training.advance(fit, steps, guard)
    metrics = task.metrics(outputs_of(training.result, test, task), test.targets)
    folder = small.root / "results" / "train"
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in training.result.state_dict().items()}, folder / "model.safetensors")
    winner = {
        "architecture": dict(architecture),
        "canonical": "c",
        "space": {"name": name, **settings},
        "trial": 0,
        "search": "s",
        "seed": 0,
        "objective": {"metrics": ["accuracy"]},
        "metric": "accuracy",
        "sign": 1,
        "graph": None,
    }
    (folder / "architecture.json").write_text(json.dumps({**winner, "task": {"name": "image_classification"}}))
    (folder / "details.json").write_text(json.dumps({"shipped": {"seed": 0, **metrics}}))
    return metrics["accuracy"]


@pytest.mark.parametrize("scale", SCALED)
def test_predict_scores_a_users_images_as_train_scored_the_data(small: StageProject, scale: str) -> None:
    dataset = prepared(small, SCALED[scale])
    accuracy = trained(small, dataset, 60)
    assert accuracy > 0.7, "so little is learned that a wrong range would hardly show"
    answer = small.stage("export")
    assert answer.code == 0, answer.errors
    manifest = small.read("export/manifest.json")
    assert manifest["inputs"] == [{"name": "images", "dtype": "uint8", "shape": ["batch", 8, 8, 1]}]
    assert manifest["test"]["accuracy"] == pytest.approx(accuracy, abs=0.01)
    assert manifest["test_as_trained"]["accuracy"] == accuracy
    assert manifest["test_difference"]["accuracy"] == manifest["test"]["accuracy"] - accuracy
    assert manifest["scored_on"]["stored"] == SCALED[scale].dtype.name
    shown = dict(small.read("export/summary.json")["lines"])
    assert ("8-bit inputs" in shown) == (scale != "bytes")
    paths = []
    for index, pixels in enumerate(_original(dataset, SCALED[scale])):
        paths.append(small.root / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    answers = predict.predict(paths, small.root / "results/export/model.onnx", 1)
    right = [given["class"] == str(target) for given, target in zip(answers, dataset.targets("test"), strict=True)]
    assert np.mean(right) == pytest.approx(manifest["test"]["accuracy"], abs=0.01)


def _original(dataset: Dataset, scaled: np.ndarray) -> list[np.ndarray]:
    """The pictures, as a user has them, whose stored form is in the test split."""
    position = {image.tobytes(): index for index, image in enumerate(scaled)}
    return [BYTES[position[image.tobytes()]] for image in np.array(dataset.inputs("test"))[..., 0]]


def test_a_file_that_is_not_faithful_publishes_nothing_and_leaves_the_old_bundle(small: StageProject) -> None:
    dataset = prepared(small, SCALED["-1..1"])
    trained(small, dataset, 1)
    assert small.stage("export").code == 0
    before = small.content("export")
    assert "results/export/model.onnx" in before
    small.choose({"name": "npz", "path": "digits.npz"}, export={"exporter": "torchscript", "tolerance": 1e-12, "int8": "never"})
    answer = small.stage("export")
    assert answer.code == 1
    assert answer.errors.startswith("nasflow: trial 0 does not ship: the ONNX file does not follow its module: on ")
    assert len(answer.errors.splitlines()) == 1
    assert small.content("export") == before
    assert small.left_behind() == []


def test_a_first_failure_makes_no_results(small: StageProject) -> None:
    trained(small, prepared(small, SCALED["bytes"], tolerance=1e-12), 1)
    answer = small.stage("export")
    assert (answer.code, len(answer.errors.splitlines())) == (1, 1)
    assert not (small.root / "results" / "export").exists()
    assert small.left_behind() == []


def test_a_page_that_cannot_be_made_is_told_before_any_work(small: StageProject, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(small, prepared(small, SCALED["bytes"]), 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(small.root / "cache"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    small.choose({"name": "npz", "path": "digits.npz"}, export={"exporter": "torchscript", "web": True})
    answer = small.stage("export")
    assert (answer.code, answer.output, len(answer.errors.splitlines())) == (1, "", 1)
    assert "cannot be had from the npm registry 127.0.0.1:9 (" in answer.errors
    assert not (small.root / "results" / "export").exists()


def test_the_page_comes_with_the_bundle(small: StageProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "runtime", lambda: Runtime(b"export {};", b"\0asm"))
    trained(small, prepared(small, SCALED["0..1"]), 1)
    small.choose({"name": "npz", "path": "digits.npz"}, export={"exporter": "torchscript", "web": True})
    assert small.stage("export").code == 0
    assert {"results/export/web/index.html", "results/export/web/model.js"} < set(small.content("export"))
    assert verify.verify(small.root / "results/export")["problems"] == []
    assert dict(small.read("export/summary.json")["lines"])["in a browser"] == "results/export/web/index.html"


def test_the_bundle_is_what_dvc_keeps_and_checks_itself(small: StageProject) -> None:
    dataset = prepared(small, SCALED["0..1"])
    trained(small, dataset, 1)
    details = small.read("train/details.json")
    details |= {"seeds": {"seed_0": {}, "seed_1": {}}, "test": {"accuracy": 0.25}, "test_std": {"accuracy": 0.125}}
    (small.root / "results/train/details.json").write_text(json.dumps(details))
    assert small.stage("export").code == 0
    made = small.content("export")
    kept = lineage.declared(Path(__file__).parents[2])["export"].writes
    assert {next((out for out in kept if Path(name).is_relative_to(out)), name) for name in made} == set(kept)
    assert verify.verify(small.root / "results/export")["problems"] == []
    with np.load(small.root / "results/export/test_vectors.npz", allow_pickle=False) as vectors:
        first = [int(np.flatnonzero(np.array(dataset.targets("test")) == digit)[0]) for digit in range(10)]
        np.testing.assert_array_equal(vectors["images"], dataset.as_bytes("test")[sorted(first)])
        assert float(vectors["tolerance"]) == 1e-4
    card = made["results/export/README.md"].decode()
    assert "| source | npz |" in card
    assert "| mean of 2 trainings | standard deviation |" in card
    assert "| 0.2500 | 0.1250 |" in card
    assert not any(b"digits.npz" in content for name, content in made.items() if not name.endswith("lineage.json"))


def demand(small: StageProject, **changes: Any) -> None:
    """Change what the search demanded of the winner."""
    path = small.root / "results/train/architecture.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def offer(small: StageProject, *numbers: int) -> None:
    """Let the search have left these trials to choose from; the first does not fit."""
    folder = small.root / "results" / "search"
    folder.mkdir(exist_ok=True)
    metrics = {"confirm": {"accuracy": 0.5, "latency_ms": 0.25}, "select": {}}
    offered = [{"trial": number, "confirm": 0.5, "metrics": metrics, "feasible": number != numbers[-1]} for number in numbers]
    (folder / "candidates.json").write_text(json.dumps(offered))


def test_what_misses_a_constraint_does_not_ship_and_the_next_is_named(small: StageProject) -> None:
    trained(small, prepared(small, SCALED["bytes"]), 1)
    offer(small, 0, 5, 7)
    demand(small, objective={"metrics": ["accuracy"], "constraints": {"latency_ms": "<= 0.000001", "file_bytes": "<= 1e9"}})
    answer = small.stage("export")
    assert (answer.code, len(answer.errors.splitlines())) == (1, 1)
    assert re.match(
        r"nasflow: trial 0 does not ship: latency_ms [\d.e-]+ \([\d.e-]+ to [\d.e-]+\) breaks <= 0\.000001\. Next are", answer.errors
    )
    assert "Next are trial 5 (confirm 0.5, latency_ms 0.25): `nasflow run --fallback`" in answer.errors
    assert not (small.root / "results" / "export").exists()
    note = gate.refused(small.root)
    assert note is not None
    assert (note["trial"], note["next"]) == (0, [5])
    demand(small, objective={"metrics": ["accuracy"], "constraints": {"latency_ms": "<= 100000", "accuracy": ">= 0.0"}})
    assert small.stage("export").code == 0
    assert gate.refused(small.root) is None
    held = small.read("export/manifest.json")["constraints"]
    assert held["latency_ms"].endswith(" <= 100000")
    assert held["accuracy"].endswith(" >= 0.0")


def test_a_graph_that_is_not_the_one_that_was_timed_does_not_ship(small: StageProject) -> None:
    trained(small, prepared(small, SCALED["bytes"]), 1)
    demand(small, graph="0" * 64)
    answer = small.stage("export")
    assert answer.code == 1
    assert "is not 0000000000000000, which the search measured. No feasible candidate is left" in answer.errors
    graph = re.search(r"its graph ([0-9a-f]{16})", answer.errors)
    assert graph is not None
    demand(small, graph=None)
    assert small.stage("export").code == 0
    manifest = small.read("export/manifest.json")
    assert manifest["graph"].startswith(graph[1])
    demand(small, graph=manifest["graph"])
    assert small.stage("export").code == 0


def test_int8_is_scored_and_timed_and_the_report_says_which_ships_and_why(small: StageProject) -> None:
    trained(small, prepared(small, SCALED["bytes"], int8="measure"), 30)
    assert small.stage("export").code == 0
    manifest, folder = small.read("export/manifest.json"), small.root / "results" / "export"
    ships, other = manifest["ships"], {"float": "int8", "int8": "float"}[manifest["ships"]]
    assert manifest["why"].startswith(f"{ships}")
    assert re.search(r"int8 is (faster|slower|neither faster nor slower) here \([\d.]+ times the time of floats\)", manifest["why"])
    assert manifest["variants"][ships]["sha256"] == manifest["sha256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert manifest["variants"][other]["sha256"] == hashlib.sha256((folder / f"variants/{other}.onnx").read_bytes()).hexdigest()
    assert manifest["variants"]["int8"]["bytes"] != manifest["variants"]["float"]["bytes"]
    assert manifest["variants"]["int8"]["agreement"] > 0.8
    content = small.content("export")
    assert small.stage("export").code == 0
    assert {name: data for name, data in small.content("export").items() if "lineage" not in name} == {
        name: data for name, data in content.items() if "lineage" not in name
    }


def test_bytes_need_no_rounding_and_the_file_says_what_they_stand_for(small: StageProject) -> None:
    dataset = prepared(small, SCALED["bytes"])
    trained(small, dataset, 1)
    assert small.stage("export").code == 0
    manifest = small.read("export/manifest.json")
    assert manifest["test_difference"]["accuracy"] == 0
    assert manifest["metadata"]["byte_range"] == "[0.0, 255.0]"
    model = (small.root / "results/export/model.onnx").read_bytes()
    assert manifest["sha256"] == hashlib.sha256(model).hexdigest()
