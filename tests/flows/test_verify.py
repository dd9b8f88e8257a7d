"""`nasflow verify`: what is made again from its record is the same to the last bit, and what is not says why."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded_project import SEARCH, inside, make_recorded_project, nasflow, record, run_stages, write_settings
from safetensors.torch import save_file
from small_images import one_thread
from stage_project import StageProject

from flows import environment, search_start, verify
from flows.why import hashes
from nas.architecture import Architecture
from nas.evaluators.shared import Shared
from nas.trial import Proposal, Report, Score, Trial

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> StageProject:
    """A project whose stages have all run; tests change a copy."""
    root = tmp_path_factory.mktemp("recorded")
    with inside(root):
        project = make_recorded_project(root)
        run_stages(["prepare", "search", "train", "export"])
    return project


@pytest.fixture
def copied(built: StageProject, tmp_path: Path) -> Iterator[StageProject]:
    """A copy of the project, in the current folder."""
    root = tmp_path / "project"
    shutil.copytree(built.root, root, symlinks=True)
    with inside(root):
        yield StageProject(root)


def test_a_trial_comes_out_again_after_those_that_it_went_on_with(copied: StageProject) -> None:
    best = copied.read("search/best.json")
    run = copied.root / ".nasflow" / f"search-{best['search']}"
    assert best["trial"] == 2  # the promotion of trial 0, whose weights were removed
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    answer = nasflow("verify", "2")
    assert answer.code == 0, answer.errors
    assert answer.output.splitlines()[-1] == f"trial 2 of {run.name}: bit-identical"
    assert "bytes, all equal" in answer.output
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_trial_that_took_over_a_result_verifies_the_one_that_made_it(copied: StageProject) -> None:
    (copied.root / "nas" / "code.py").write_text("second\n")
    write_settings(copied.root, search={**SEARCH, "seed": 1})
    answer = nasflow("verify", "3")
    assert answer.code == 0, answer.errors
    assert "evaluated as   trial 1, whose result trial 3 took over" in answer.output
    assert "weights        not kept by the search" in answer.output
    assert "changed since  code: nas/code.py" in answer.output
    assert "0.seed 1 now, 0 in the record" in answer.output
    assert answer.output.splitlines()[-1].endswith(": bit-identical")


def test_the_winner_comes_out_again_from_every_seed(copied: StageProject) -> None:
    for words in (["verify"], ["verify", "winner", "--seed", "1"]):
        answer = nasflow(*words)
        assert answer.code == 0, answer.errors
        assert "bytes, all equal" in answer.output
        assert answer.output.splitlines()[-1].endswith(": bit-identical")
    answer = nasflow("verify", "winner", "--seed", "7")
    assert (answer.code, answer.errors) == (1, "nasflow: the winner was not trained from seed 7: its seeds are 0, 1\n")


def test_without_its_run_the_winner_is_verified_from_the_results(copied: StageProject) -> None:
    shutil.rmtree(copied.root / ".nasflow")
    assert nasflow("verify").output.splitlines()[-1].endswith(": bit-identical")
    other = next(seed for seed in (0, 1) if seed != copied.read("train/architecture.json")["seed"])
    answer = nasflow("verify", "winner", "--seed", str(other))
    assert answer.output.splitlines()[-1].endswith(": bit-identical")
    assert "no longer there" in answer.output
    answer = nasflow("verify", "0")
    assert answer.code == 2
    assert "is gone, and with it the record of the trials" in answer.errors


def test_other_data_are_named_when_the_winner_differs(copied: StageProject) -> None:
    prepare = {"task": "image_classification", "source": {"name": "digits"}, "splits": {"limit": 80, "seed": 1}}
    write_settings(copied.root, prepare=prepare)
    run_stages(["prepare"])
    answer = nasflow("verify", "winner", "--tolerance", "1e-9")
    assert answer.code == 1
    assert "differs, and this input changed: data: results/prepare holds" in answer.output.splitlines()[-1]


def test_another_environment_is_named_and_a_small_difference_is_within_tolerance(
    copied: StageProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = environment.present()
    monkeypatch.setattr(environment, "present", lambda device: {**now, "torch": "2.99.0", "threads": 1})
    path = copied.root / "results" / "train" / "model.safetensors"
    weights = verify._load(path)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    save_file({**weights, name: weights[name] + 1e-6}, path)
    answer = nasflow("verify")
    assert answer.code == 0
    said = answer.output.splitlines()[-1]
    assert "equal within tolerance (0.01, relative beyond 1), although this input changed: torch 2.99.0 (began under 2." in said
    assert "1 of" in answer.output


def test_the_file_is_exported_again(copied: StageProject) -> None:
    answer = nasflow("verify", "export")
    assert (answer.code, answer.output.splitlines()[-1]) == (0, "results/export/model.onnx, exported again: bit-identical")
    weights = copied.root / "results" / "train" / "model.safetensors"
    other = verify._load(weights)
    save_file({name: tensor + 0.1 if tensor.is_floating_point() else tensor for name, tensor in other.items()}, weights)
    answer = nasflow("verify", "export")
    assert answer.code == 1
    assert "differs, and this input changed: file: results/train/model.safetensors" in answer.output.splitlines()[-1]
    with (copied.root / "results" / "export" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert "it is not the file that the manifest names" in nasflow("verify", "export").output


@pytest.mark.parametrize("name", ["model.onnx", "predict.py", "variants/variants.json"])
def test_a_file_of_the_bundle_that_was_altered_is_named(copied: StageProject, name: str) -> None:
    with (copied.root / "results" / "export" / name).open("ab") as file:
        file.write(b"#")
    answer = nasflow("verify", "export")
    assert answer.code == 1
    assert f"differs, and this input changed: file: results/export/{name}" in answer.output.splitlines()[-1]
    (copied.root / "results" / "export" / name).unlink()
    assert f"file: results/export/{name}" in nasflow("verify", "export").output


def test_what_cannot_be_asked_is_refused(copied: StageProject) -> None:
    for words, sentence in (
        (["9"], "the search has no trial 9: its trials are 0 to 3"),
        (["loser"], "'loser' cannot be verified: give the number of a trial, `winner` or `export`"),
        (["3", "--tolerance", "-1"], "--tolerance is -1: give a finite number of at least 0"),
        (["3", "--tolerance", "nan"], "--tolerance is nan: give a finite number of at least 0"),
        (["3", "--seed", "1"], "--seed belongs to `nasflow verify winner`, not to '3': leave it out"),
    ):
        answer = nasflow("verify", *words)
        assert (answer.code, answer.errors) == (1, f"nasflow: {sentence}\n")
    answer = nasflow("verify", "export", "--tolerance", "0.5")
    assert (answer.code, "held to `export.tolerance` of its record" in answer.errors) == (1, True)
    (copied.root / "results" / "train" / "architecture.json").unlink()
    answer = nasflow("verify", "export")
    assert (answer.code, "results/train/architecture.json is missing: bring it back with `dvc pull`" in answer.errors) == (2, True)
    shutil.rmtree(copied.root / "results")
    for word in ("0", "winner", "export"):
        assert nasflow("verify", word).code == 2


def test_trials_that_share_weights_are_refused_with_the_way_to_verify_the_whole(copied: StageProject) -> None:
    trial = Trial(0, Proposal(Architecture(copied.read("search/best.json")["architecture"])), Report({"accuracy": 0.5}), Score(0.0, (0.5,)))
    run = record(copied, {"name": "shared", **Shared().model_dump(mode="json")}, [trial])
    answer = nasflow("verify", "0")
    assert answer.code == 2
    assert (
        f"move .nasflow/{run.name} aside and run `nasflow stage search`: every file but lineage.json must come out equal" in answer.errors
    )


def test_a_search_without_a_trial_says_how_to_go_on(copied: StageProject) -> None:
    record(copied, {"name": "scratch"}, [])
    assert "the search has no trial 0: none of its trials has ended yet, so continue it with" in nasflow("verify", "0").errors


def test_a_trial_of_a_table_is_looked_up_again(copied: StageProject) -> None:
    architecture = Architecture(copied.read("search/best.json")["architecture"])
    text = json.dumps(dict(architecture)).replace('"', '""')
    (copied.root / "table.csv").write_text(f'arch,score\n"{text}",0.25\n')
    trial = Trial(0, Proposal(architecture), Report({"accuracy": 0.75}), Score(0.0, (0.75,)))
    record(copied, {"name": "table", "path": "table.csv", "metrics": {"accuracy": "score"}}, [trial])
    answer = nasflow("verify", "0")
    assert answer.code == 1
    assert "accuracy     0.75 recorded, 0.25 now: -0.5" in answer.output
    assert "differs, although the data that it read, the code and the environment are those of the record" in answer.output.splitlines()[-1]


def test_the_environment_of_what_a_trial_went_on_with_is_named_too(copied: StageProject) -> None:
    """Trial 2 goes on with the weights of trial 0, which is made again, too, in the present environment."""
    path = copied.root / ".nasflow" / f"search-{copied.read('search/best.json')['search']}" / "environment.json"
    [entry] = json.loads(path.read_text())
    other = {**entry, "environment": {**entry["environment"], "torch": "1.0"}}
    path.write_text(json.dumps([other, {**entry, "trials": 1}]))
    assert "(began under 1.0)" in nasflow("verify", "2").output


def test_a_changed_table_is_named(copied: StageProject) -> None:
    architecture = Architecture(copied.read("search/best.json")["architecture"])
    text, table = json.dumps(dict(architecture)).replace('"', '""'), copied.root / "table.csv"
    table.write_text(f'arch,score\n"{text}",0.75\n')
    trial = Trial(0, Proposal(architecture), Report({"accuracy": 0.75}), Score(0.0, (0.75,)))
    evaluator = {"name": "table", "path": "table.csv", "metrics": {"accuracy": "score"}}
    record(copied, evaluator, [trial], files=search_start.files(copied.root, ["table.csv"]))
    said = nasflow("verify", "0").output
    assert (said.splitlines()[-1].endswith("bit-identical"), "file: table.csv" in said) == (True, False)
    table.write_text(f'arch,score\n"{text}",0.25\n')
    assert nasflow("verify", "0").output.splitlines()[-1].endswith("differs, and this input changed: file: table.csv")
    table.unlink()
    assert nasflow("verify", "0").output.splitlines()[-1].endswith("differs, and this input changed: file: table.csv")


@pytest.mark.parametrize(("words", "stage"), [(["verify"], "training"), (["verify", "2"], "search")])
def test_an_array_that_was_altered_is_named_and_one_that_is_not_read_is_left_alone(
    copied: StageProject, words: list[str], stage: str
) -> None:
    prepared = copied.root / "results" / "prepare"
    unread, read = prepared / "test_targets.npy", prepared / "fit_inputs.npy"
    unread.write_bytes(flipped(unread.read_bytes()))
    answer = nasflow(*words, "--tolerance", "1e-9")
    assert answer.output.splitlines()[-1].endswith(": bit-identical")
    assert "changed since" not in answer.output
    times = read.stat()
    read.write_bytes(flipped(read.read_bytes()))
    os.utime(read, ns=(times.st_atime_ns, times.st_mtime_ns))
    said = nasflow(*words, "--tolerance", "1e-9").output.splitlines()[-1]
    assert said.endswith("differs, and this input changed: data: results/prepare/fit_inputs.npy is not what was read then")


def flipped(content: bytes) -> bytes:
    """Other bytes in the second half, of the same number."""
    half = len(content) // 2
    return content[:half] + bytes(255 - one for one in content[half:])


def test_an_altered_array_is_named_though_the_file_comes_out_the_same(copied: StageProject) -> None:
    targets = copied.root / "results/prepare/test_targets.npy"
    targets.write_bytes(targets.read_bytes()[:-8] + (1).to_bytes(8, "little"))
    answer = nasflow("verify", "export")
    assert answer.output.splitlines()[-1].endswith(": bit-identical")
    assert "changed since" in answer.output
    assert "data: results/prepare/test_targets.npy is not what was read then" in answer.output


def test_weights_that_were_altered_are_named_where_dvc_knows_those_that_were_trained(copied: StageProject) -> None:
    names = ("lineage.json", "model.safetensors", "curve.csv")
    outs = [{"path": f"results/train/{name}", "md5": hashes.of_path(copied.root / "results/train" / name)} for name in names]
    (copied.root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"train": {"cmd": "x", "outs": outs}}}))
    path = copied.root / "results/train/model.safetensors"
    save_file({name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in verify._load(path).items()}, path)
    assert "although this input changed: file: results/train/model.safetensors" in nasflow("verify").output.splitlines()[-1]
    outs[0]["md5"] = "0" * 32
    (copied.root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"train": {"cmd": "x", "outs": outs}}}))
    assert "this input changed" not in nasflow("verify").output.splitlines()[-1], "dvc.lock is about another training then"


@pytest.mark.parametrize(
    ("words", "path", "content", "sentence"),
    [
        ("export", "train/architecture.json", None, "results/train/architecture.json is missing: bring it back with `dvc pull`"),
        ("export", "export/manifest.json", "{\n", "results/export/manifest.json is no JSON (Expecting property name"),
        ("export", "export/manifest.json", "[]", "results/export/manifest.json is not the record that a stage writes: bring the right one"),
        ("export", "train/model.safetensors", "no weights", "model.safetensors beside it do not belong together"),
        ("winner", "train/architecture.json", None, "results/train/architecture.json is missing: bring it back with `dvc pull`"),
        ("winner", "train/lineage.json", "{}", "results/train/lineage.json does not say 'runs'"),
        ("winner", "train/curve.csv", None, "results/train/curve.csv is missing"),
        ("winner", "train/curve.csv", "seed,epoch\n", "results/train/curve.csv is not the table that the training wrote"),
        ("2", "search/best.json", "\0", "results/search/best.json is no JSON"),
        ("2", "search/lineage.json", None, "results/search/lineage.json is missing"),
    ],
)
def test_a_record_that_cannot_be_read_is_one_sentence(
    copied: StageProject, words: str, path: str, content: str | None, sentence: str
) -> None:
    place = copied.root / "results" / path
    place.unlink()
    if content is not None:
        place.write_text(content)
    answer = nasflow("verify", words)
    assert answer.code in (1, 2)
    assert sentence in answer.errors
    assert answer.errors.count("\n") == 1


def test_another_architecture_than_that_of_the_weights_is_told(copied: StageProject) -> None:
    path = copied.root / "results/train/architecture.json"
    winner = json.loads(path.read_text())
    for change in ({"architecture": {**winner["architecture"], "stage_0.width": "4096"}}, {"space": {"name": "nothing"}}, {"space": {}}):
        path.write_text(json.dumps({**winner, **change}))
        answer = nasflow("verify", "export")
        both = "results/train/architecture.json and model.safetensors beside it do not belong together"
        assert (answer.code, both in answer.errors, answer.errors.count("\n")) == (1, True, 1)


def test_results_are_shown_with_paths_that_can_be_typed(copied: StageProject) -> None:
    said = nasflow("show").output
    assert str(copied.root) not in said
    assert "python results/export/predict.py IMAGE" in said
