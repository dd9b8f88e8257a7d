"""The whole path with the real command line, the real DVC and the real Prefect engine, on the digits that scikit-learn brings."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_project import Project, until
from killed_pipelines import built_once
from PIL import Image
from real_project import BIN, RealProject
from recorded_project import inside, nasflow, run_stages
from small_images import one_thread
from stage_project import Answer

from flows import lineage
from nas.data.dataset import Dataset

__all__ = ["one_thread"]
pytestmark = pytest.mark.end_to_end
STAGES = ("prepare", "search", "train", "export", "report")
SKIPPED = "didn't change, skipping"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> RealProject:
    """A project that `dvc repro` has built; tests must leave it up to date."""
    own = tmp_path_factory.getbasetemp()
    return built_once(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture
def copied(built: RealProject, tmp_path: Path) -> RealProject:
    """A copy of the built project, to change."""
    root = tmp_path / "project"
    shutil.copytree(built.root, root, symlinks=True)
    return RealProject(root, {**built.environment, "PYTHONPATH": str(root)})


@pytest.fixture
def served(copied: RealProject, server: str) -> RealProject:
    """The copy, with a Prefect server that runs already: a run that starts its own makes a database first."""
    return RealProject(copied.root, {**copied.environment, "PREFECT_API_URL": server})


def test_every_result_is_there_and_says_the_same(built: RealProject) -> None:
    results = built.root / "results"
    best = json.loads((results / "search/best.json").read_text())
    winner = json.loads((results / "train/architecture.json").read_text())
    manifest = json.loads((results / "export/manifest.json").read_text())
    with (results / "search/trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    assert len(trials) == 4
    assert {trial["status"] for trial in trials} == {"done"}
    assert winner["architecture"] == best["architecture"]
    row = trials[best["trial"]]
    assert {name: row[name] for name in best["architecture"]} == best["architecture"]
    assert json.loads(manifest["metadata"]["architecture"]) == best["architecture"]
    assert manifest["parity"]["agreement"] == 1.0
    assert manifest["parity"]["examples"] == Dataset.open(results / "prepare").description.counts["test"]
    shipped = json.loads((results / "train/details.json").read_text())["shipped"]
    assert manifest["test"]["accuracy"] == pytest.approx(shipped["accuracy"])
    with (results / "train/confusion.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert sum(pair["actual"] == pair["predicted"] for pair in pairs) / len(pairs) == pytest.approx(shipped["accuracy"])
    for stage in STAGES:
        assert json.loads((results / stage / "lineage.json").read_text())["stage"] == stage
        assert json.loads((results / stage / "summary.json").read_text())["lines"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_publishes_exactly_what_dvc_knows_of(built: RealProject, stage: str) -> None:
    declared = lineage.declared(built.root)[stage].writes
    written = {path for path in declared if path != "results/report.html"}
    assert all((built.root / path).exists() for path in declared)
    published = {str(path.relative_to(built.root)) for path in (built.root / "results" / stage).iterdir() if path.name != ".gitignore"}
    assert published == written or written == {f"results/{stage}"}


def test_an_edit_during_a_stage_publishes_nothing_and_the_stage_alone_runs_again(served: RealProject) -> None:
    before, earlier = served.content("export"), served.content("prepare", "search", "train")
    served.set("export.tolerance=0.0003")
    process = subprocess.Popen(served.words("nasflow", "run"), cwd=served.root, env=served.environment, stderr=subprocess.PIPE, text=True)
    while not (served.root / ".nasflow" / "publish-export" / "fresh").exists():  # it exports now, and checks against PyTorch then
        assert process.poll() is None
        time.sleep(0.01)
    served.set("export.tolerance=0.0002")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    cause, advice = errors.splitlines()[-2:]
    assert cause.startswith("nasflow: export: export: setting export.tolerance was 0.0003 when the stage read it, is now 0.0002")
    assert advice == "nothing was published: run the stage again"
    assert served.content("export") in ({}, before)
    output = served.run("dvc", "repro").stdout
    assert output.count(SKIPPED) == 3
    assert "Running stage 'export'" in output
    assert served.content("prepare", "search", "train") == earlier
    assert json.loads(served.run("dvc", "status", "--json").stdout) == {}


def test_changed_data_run_everything_again(copied: RealProject) -> None:
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    np.savez(copied.root / "mine.npz", x=images, y=np.arange(80) % 2)
    copied.set("prepare.source={name: npz, path: mine.npz}")
    refused = copied.run("dvc", "repro", check=False)
    assert refused.returncode != 0
    assert "dvc.yaml does not name mine.npz" in refused.stderr
    assert "nasflow check" in refused.stderr
    copied.run("nasflow", "check")
    copied.run("dvc", "repro", "prepare")
    first = json.loads((copied.root / "results/prepare/dataset.json").read_text())["digest"]
    np.savez(copied.root / "mine.npz", x=255 - images, y=np.arange(80) % 2)
    assert "mine.npz" in copied.run("dvc", "status", "--json").stdout
    copied.run("dvc", "repro", "prepare")
    assert json.loads((copied.root / "results/prepare/dataset.json").read_text())["digest"] != first


def test_a_second_run_does_nothing_and_status_is_clean(built: RealProject) -> None:
    assert built.run("dvc", "repro").stdout.count(SKIPPED) == len(STAGES)
    assert json.loads(built.run("dvc", "status", "--json").stdout) == {}


def test_metrics_and_plots_can_be_shown(built: RealProject, tmp_path: Path) -> None:
    metrics = json.loads(built.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert 0 <= metrics["results/train/metrics.json"]["data"]["test"]["accuracy"] <= 1
    built.run("dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    for title in ("Search progress", "Training", "Confusion"):
        assert title in page


def test_an_experiment_overrides_a_setting_and_continues_the_search(copied: RealProject) -> None:
    before = (copied.root / "results/search/trials.csv").read_text().splitlines()
    copied.run("dvc", "exp", "run", "-S", "search.trials=6", "search")
    after = (copied.root / "results/search/trials.csv").read_text().splitlines()
    assert len(after) == 7
    assert after[:5] == before


def test_the_flow_and_dvc_agree_and_nothing_runs_twice(copied: RealProject, served: RealProject) -> None:
    first = served.run("nasflow", "run")  # one that is killed, in tests/kills, has a server of its own
    for stage in STAGES:
        assert f"{stage}: cached" in first.stdout
    assert "best architecture" in first.stdout
    assert "results/export/model.onnx" in first.stdout
    changed = served.run("nasflow", "run", "--set", "export.tolerance=0.0002")
    assert [f"{stage}: cached" in changed.stdout for stage in STAGES] == [True, True, True, False, False]
    assert json.loads(copied.run("dvc", "status", "--json").stdout) == {}
    assert copied.run("dvc", "repro").stdout.count(SKIPPED) == len(STAGES)
    verdict = "within noise", "higher than the search said", "lower than the search said"
    assert any(words in changed.stdout for words in verdict)


def test_a_single_stage_shows_its_own_result(served: RealProject) -> None:
    for stage in ("train", "export"):
        shutil.rmtree(served.root / "results" / stage)
    done = served.run("nasflow", "run", "search")
    assert "search: cached" in done.stdout
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[lines.index("Search") + 1 :][:4]] == ["strategy", "trials", "winner", "architecture"]
    assert "best architecture" not in done.stdout


def test_stopping_a_training_ends_it_at_once_and_the_next_run_gives_the_same_bytes(built: RealProject, copied: RealProject) -> None:
    shutil.rmtree(copied.root / ".nasflow")
    shutil.rmtree(copied.root / "results/train")
    # First while the workers start, then after the first checkpoint.
    for moment, number in (("lock", signal.SIGINT), ("seed-0.pt", signal.SIGTERM)):
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        words = copied.words("nasflow", "stage", "train")
        process: subprocess.Popen[str] = subprocess.Popen(words, cwd=copied.root, env=copied.environment, **pipes)  # type: ignore[call-overload]
        _await(copied, "train-*/" + moment, process)
        start = time.monotonic()
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - start < 10
        assert errors.strip() == "nasflow: stopped: run the same command again to continue"
        assert process.returncode == 128 + number
        until(lambda: not Project(copied.root, {}).processes(), 5)
        assert not (copied.root / "results/train").exists()
    [state] = (json.loads(path.read_text()) for path in (copied.root / ".nasflow").glob("train-*/state.json"))
    assert (state["name"], state["reason"]) == ("paused", "SIGTERM")
    copied.run("nasflow", "stage", "train")
    assert copied.content("train") == built.content("train")


def _await(project: RealProject, pattern: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in (project.root / ".nasflow").glob(pattern)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_predict_needs_nothing_of_ours(built: RealProject, tmp_path: Path) -> None:
    dataset = Dataset.open(built.root / "results/prepare")
    images, targets = dataset.inputs("test")[:20], dataset.targets("test")[:20]
    paths = []
    for index, image in enumerate(images):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(np.array(image[..., 0])).save(paths[-1])
    shutil.copytree(built.root / "results/export", tmp_path / "model")
    blocked = "import sys, runpy; sys.modules.update(dict.fromkeys(['torch', 'nas', 'flows', 'export', 'onnx', 'sklearn'])); "
    code = f"{blocked}sys.argv = ['predict.py', *sys.argv[1:]]; runpy.run_path('model/predict.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, *paths, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()] if done.stdout.lstrip()[0] == "{" else json.loads(done.stdout)
    assert len(answers) == 20
    details = json.loads((built.root / "results/train/details.json").read_text())
    right = sum(answer["class"] == str(target) for answer, target in zip(answers, targets, strict=True))
    assert right >= 20 * details["shipped"]["accuracy"] - 4


def test_missing_data_are_named_and_nothing_is_published(copied: RealProject) -> None:
    shutil.rmtree(copied.root / "results")
    copied.set("prepare.source={name: npz, path: nowhere.npz}")
    with inside(copied.root):
        answer = nasflow("stage", "prepare")
        assert answer.code == 1
        assert "nowhere.npz" in answer.errors
        assert not (copied.root / "results" / "prepare").exists()
        assert nasflow("stage", "train").code == 1


def test_a_wrong_setting_stops_everything_before_any_work(served: RealProject) -> None:
    text = (served.root / "params.yaml").read_text()
    (served.root / "params.yaml").write_text(text.replace("trials: 4", "trails: 4"))
    before = served.content(*STAGES)
    done = served.run("nasflow", "run", check=False)
    with inside(served.root):
        answers = [Answer(done.returncode, done.stdout, done.stderr), nasflow("stage", "search"), nasflow("check")]
    for answer in answers:
        assert answer.code == 1
        assert answer.errors.strip().endswith("search.trails is not a setting: did you mean 'trials'?")
        assert "Traceback" not in answer.errors
    assert served.content(*STAGES) == before


def test_a_path_without_data_is_found_before_any_work(copied: RealProject) -> None:
    copied.set("prepare.source={name: npz, path: nowhere.npz}")
    with inside(copied.root):
        answer = nasflow("check")  # with which `nasflow run` begins, as the test above shows
    assert answer.code == 1
    assert "prepare.source reads nowhere.npz, which does not exist: put the data there, or correct the path" in answer.errors
    assert "Traceback" not in answer.errors


def test_candidates_that_break_a_constraint_are_rejected_before_training(copied: RealProject) -> None:
    copied.set('search.objective.constraints={parameters: "<= 40000"}')
    with inside(copied.root):
        run_stages(["search"])
    with (copied.root / "results/search/trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    done = [trial for trial in trials if trial["status"] == "done"]
    rejected = [trial for trial in trials if trial["status"] == "rejected"]
    assert len(done) == 4
    assert rejected
    assert all(float(trial["parameters"]) <= 40000 for trial in done)
    assert all(float(trial["parameters"]) > 40000 and trial["accuracy"] == "" and "<= 40000" in trial["error"] for trial in rejected)


def test_the_command_answers_fast_when_asked_for_help() -> None:
    code = "import flows.cli, sys; print([name for name in ('torch', 'prefect', 'dvc') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    assert "stage" in subprocess.run([BIN / "nasflow", "--help"], capture_output=True, text=True, check=True).stdout
