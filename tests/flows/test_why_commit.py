"""The last link of a chain: what Git has to hold beside dvc.lock, so that a fresh clone has nothing to run again."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from flows.why import code, evidence, hashes
from flows.why.chain import Link, State

METRICS = "results/train/metrics.json"
CODE, DATA = "nas/code.py", "data/images.npz"
NEEDED = ["dvc.yaml", "dvc.lock", "params.yaml", ".dvc/config", "data/images.npz.dvc", METRICS]
STAGES = f"stages:\n  train:\n    cmd: x\n    deps: [{CODE}, {DATA}]\n    metrics:\n      - {METRICS}:\n          cache: false\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose only stage has run, under Git, with only the code committed."""
    content = {CODE: "first\n", DATA: "pixels", f"{DATA}.dvc": "outs: []\n", METRICS: "{}\n", "dvc.yaml": STAGES}
    content |= {"params.yaml": "train:\n  epochs: 3\n  trial: null\n", ".dvc/config": "", ".gitignore": f"/{DATA}\n"}
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    reads, writes = (
        "".join(f"    - path: {path}\n      md5: {hashes.of_path(tmp_path / path)}\n" for path in paths)
        for paths in ([CODE, DATA], [METRICS])
    )
    params = "    params:\n      params.yaml:\n        train:\n          epochs: 3\n          trial: null\n"
    (tmp_path / "dvc.lock").write_text(f"stages:\n  train:\n    cmd: x\n    deps:\n{reads}{params}    outs:\n{writes}")
    git(tmp_path, "init", "-q")
    commit(tmp_path, CODE, ".gitignore")
    return tmp_path


def git(root: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false", *words], cwd=root, check=True
    )


def commit(root: Path, *paths: str) -> None:
    git(root, "add", *paths)
    git(root, "commit", "-qm", "more")


def told(root: Path) -> tuple[Link, Link, Link]:
    """The links of the settings, the code and the commit."""
    return code.committed(evidence.gather(root))


def advice(link: Link) -> Sequence[str]:
    """What the sentence says to add."""
    [sentence] = link.unchecked
    command = sentence[sentence.index("git add") :].split(" && ")[0]
    return shlex.split(command)[2:]


def test_the_advice_names_all_that_a_clone_needs_and_makes_the_chain_whole(project: Path) -> None:
    link = told(project)[2]
    assert link.unchecked[0].startswith("no commit holds this dvc.lock, so a fresh clone could not tell")
    assert advice(link) == NEEDED
    commit(project, *advice(link))
    settings, sources, link = told(project)
    assert {one.state for one in (settings, sources, link)} == {State.HOLDS}
    assert dict(settings.facts)["train: train"] == "epochs 3, trial null"


@pytest.mark.parametrize("left_out", [name for name in NEEDED if name != "dvc.lock"])
def test_a_commit_that_lacks_one_of_them_leaves_the_chain_open(project: Path, left_out: str) -> None:
    commit(project, *(name for name in NEEDED if name != left_out))
    link = told(project)[2]
    assert link.state == State.OPEN
    assert f"the last commit lacks {left_out} as the results need it" in link.unchecked[0]
    commit(project, *advice(link))
    assert told(project)[2].state == State.HOLDS


def test_metrics_of_another_run_are_not_those_that_a_clone_needs(project: Path) -> None:
    (project / METRICS).write_text('{"accuracy": 1}\n')
    commit(project, *NEEDED)
    (project / METRICS).write_text("{}\n")
    assert f"the last commit lacks {METRICS}" in told(project)[2].unchecked[0]


def test_later_words_in_the_declarations_do_not_matter_but_other_stages_do(project: Path) -> None:
    commit(project, *NEEDED)
    (project / "dvc.yaml").write_text(f"# later\n{STAGES}")
    assert told(project)[2].state == State.HOLDS
    (project / "dvc.yaml").write_text(STAGES.replace(CODE, "nas"))
    assert "the last commit lacks dvc.yaml" in told(project)[2].unchecked[0]


def test_what_git_keeps_comes_back_by_git(project: Path) -> None:
    commit(project, *(name for name in NEEDED if name != METRICS))
    (project / METRICS).unlink()
    known = evidence.gather(project)
    lost = "Git is to keep it, but no commit holds it: run `nasflow run`, and commit it"
    assert evidence.of_stage(known, "train", ()) == ([], [f"{METRICS} is missing: {lost}"])
    assert "run `nasflow run`, then `git add dvc.yaml" in told(project)[2].unchecked[0]
    (project / METRICS).write_text("{}\n")
    commit(project, METRICS)
    (project / METRICS).write_text("{ }\n")
    assert f"`git checkout HEAD -- {METRICS}`" in evidence.of_stage(known, "train", ())[0][0]


def test_a_lock_that_was_removed_or_damaged_comes_back_by_git(project: Path) -> None:
    commit(project, *NEEDED)
    (project / "dvc.lock").write_text("stages: {\n")
    with pytest.raises(ValueError, match=r"dvc\.lock is damaged \(not valid YAML: .*`git checkout HEAD -- dvc\.lock`"):
        evidence.gather(project)
    (project / "dvc.lock").unlink()
    with pytest.raises(ValueError, match=r"holds no dvc\.lock.*: restore it with `git checkout HEAD -- dvc\.lock`"):
        evidence.gather(project)


def test_without_git_the_repository_comes_first_and_the_code_goes_into_it(project: Path) -> None:
    (project / ".git").rename(project / "elsewhere")
    [sentence] = told(project)[2].unchecked
    assert sentence.startswith("this is no Git repository with commits")
    assert "`git init && git add dvc.yaml dvc.lock params.yaml" in sentence
    assert sentence.endswith(' nas flows export && git commit -m "Results"`')
