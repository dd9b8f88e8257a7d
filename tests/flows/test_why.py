"""The parts of `nasflow why` that need no pipeline: ancestors, hashes as DVC's and Git's, the words and the picture."""

import csv
import io
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fake_project import Project
from recorded_project import inside, nasflow
from rich.console import Console

from flows.why import code, descent, evidence, git, hashes, picture, stages, text
from flows.why.chain import Ancestor, Chain, Link, State
from flows.why.evidence import Evidence

HEADER = ["number", "status", "steps", "parent", "origin", "score", "accuracy", "reused", "kind", "error", "width", "kernel"]
ROWS = [
    [0, "done", "", "", "", 0.5, 0.5, "", "", "", "8", "3"],
    [1, "done", "", "", "", 0.6, 0.6, "", "", "", "16", "5"],
    [2, "done", "", "", "0 1", 0.7, 0.7, "", "", "", "8", "7"],
    [3, "done", 9, 2, "", 0.8, 0.8, "", "", "", "8", "7"],
    [4, "failed", "", "", "1", "", "", "", "time", "slow", "16", "3"],
]
WINNER = {"trial": 3, "architecture": {"width": "8", "kernel": "7"}, "ancestors": {"3": [2], "2": [0, 1], "0": [], "1": []}}


def told(root: Path, rows: Sequence[Sequence[Any]] = ROWS, winner: dict[str, Any] | None = None) -> tuple[Link, Link, list[Ancestor]]:
    """What is told of a table of trials."""
    (root / "results/search").mkdir(parents=True, exist_ok=True)
    with (root / "results/search/trials.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    best = {"trial": 3, "metric": "accuracy", "score": 0.8, "confirm": 0.75}
    records = {"train/architecture.json": WINNER | (winner or {}), "search/best.json": best}
    return descent.descended(Evidence(root, {}, records, {}))


def test_ancestors_are_told_with_how_they_were_made_and_what_changed(tmp_path: Path) -> None:
    trial, link, family = told(tmp_path)
    assert trial.state == link.state == State.HOLDS
    assert [(one.trial, one.made, dict(one.changed)) for one in family] == [
        (3, "continues the weights of trial 2", {}),
        (2, "made from trials 0 and 1", {"kernel": ("3 or 5", "7")}),
        (0, "a beginning", {}),
        (1, "a beginning", {}),
    ]
    assert family[0].score == "accuracy 0.8000"
    assert (link.title, dict(trial.facts)["of"]) == ("descends over 3 earlier trials, back to trial 1", "5 trials")
    alone = told(
        tmp_path, [[3, "done", "", "2", "", *ROWS[3][5:]], [2, "done", "", "", "", *ROWS[2][5:]]], {"ancestors": {"3": [2], "2": []}}
    )
    assert alone[1].title == "descends over 1 earlier trial, back to trial 2"


@pytest.mark.parametrize(
    ("rows", "winner", "name", "words"),
    [
        (ROWS[1:], {}, "ancestors", "trial 2 was made from trial 0, which is not in results/search/trials.csv"),
        (ROWS[:3], {}, "trial", "has no trial 3, which was trained"),
        ([*ROWS[:2], [*ROWS[2][:4], "0", *ROWS[2][5:]], *ROWS[3:]], {}, "ancestors", "name different ancestors of trial 3"),
        ([*ROWS[:2], [*ROWS[2][:4], "3", *ROWS[2][5:]], *ROWS[3:]], {}, "ancestors", "from trial 3, which came after it"),
        (ROWS, {"architecture": {"width": "16", "kernel": "7"}}, "trial", "has another width for trial 3"),
        ([*ROWS[:3], [*ROWS[3][:6], 0.9, *ROWS[3][7:]]], {}, "trial", "gives trial 3 accuracy 0.9, best.json gives it 0.8"),
        ([*ROWS[:3], [3, "failed", *ROWS[3][2:]]], {}, "trial", "trial 3 has the status 'failed' in results/search/trials.csv"),
        ([["x", *ROWS[0][1:]]], {}, "ancestors", "is missing or damaged"),
    ],
)
def test_a_broken_descent_is_named(tmp_path: Path, rows: Any, winner: dict[str, Any], name: str, words: str) -> None:
    trial, link, _ = told(tmp_path, rows, winner)
    broken = {one.name: " ".join(one.broken) for one in (trial, link)}
    assert words in broken[name]


def test_hashes_of_files_and_folders_are_dvcs_own(project: Project) -> None:
    for name in ("out/a.txt", "out/deep/ä ö.txt", "out/empty"):
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text(name if name != "out/empty" else "")
    stages = "stages:\n  one:\n    cmd: echo x > made\n    deps: [out]\n    outs: [made]\n"
    (project.root / "dvc.yaml").write_text(stages)
    project.dvc("repro", "-q")
    locked = evidence.read_lock(project.root)["one"]
    assert hashes.of_path(project.root / "out") == locked.reads["out"]
    assert hashes.of_path(project.root / "made") == locked.writes["made"]
    assert hashes.of_path(project.root / "nothing") is None


def test_a_commit_has_the_hashes_of_the_folder_that_was_committed(tmp_path: Path) -> None:
    for name in ("nas/a.py", "nas/deep/ö b.py", "other.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "the first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "nas/a.pyc").write_text("no code")
    paths = ["nas", "nas/a.py", "gone.py"]
    commit = git.last_commit(tmp_path, "nas/a.py")
    assert commit is not None
    assert (commit.subject, commit.author) == ("the first", "t <t@example.org>")
    expected = {
        "nas": hashes.of_list({name.removeprefix("nas/"): hashes.of_file(tmp_path / name) for name in ("nas/a.py", "nas/deep/ö b.py")}),
        "nas/a.py": hashes.of_file(tmp_path / "nas/a.py"),
        "gone.py": None,
    }
    assert git.hashes_at(tmp_path, commit.name, paths) == git.hashes_now(tmp_path, paths) == expected
    (tmp_path / "nas/a.py").write_text("# other\n")
    assert git.hashes_at(tmp_path, commit.name, paths) == expected
    assert git.hashes_now(tmp_path, paths)["nas/a.py"] != expected["nas/a.py"]
    assert git.last_commit(tmp_path, "nothing") is None


def test_a_record_that_is_missing_or_damaged_is_named_once_as_broken(tmp_path: Path) -> None:
    path = "results/train/architecture.json"
    (tmp_path / "dvc.lock").write_text(f"stages: {{train: {{outs: [{{path: {path}, md5: '{'0' * 32}'}}]}}}}\n")
    for content, words in ((None, "is missing: bring it back with `dvc pull`"), ("{", "is no JSON (")):
        if content is not None:
            (tmp_path / path).parent.mkdir(parents=True)
            (tmp_path / path).write_text(content)
        known = evidence.gather(tmp_path)
        link = stages.trained(known)
        assert (len(link.broken), list(link.unchecked)) == (1, [])
        assert f"{path} {words}" in link.broken[0]
        others = [stages.decided(known), *descent.descended(known)[:2]]
        assert {(one.state, *one.unchecked) for one in others} == {(State.OPEN, f"this is told from {path}, which cannot be read")}


def test_without_git_the_commit_is_open_and_not_broken(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {epochs: 1e1}\n")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    locked = evidence.Locked({"nas/a.py": "0" * 32}, {}, {"train": {"epochs": 10.0}})
    settings, sources, commit = code.committed(Evidence(tmp_path, {"train": locked}, {}, {}))
    assert (settings.state, sources.state, commit.state) == (State.HOLDS, State.OPEN, State.OPEN)
    assert "a fresh clone could not tell" in commit.unchecked[0]


LINKS = (
    Link("file", "m.onnx <&>", [("bytes", 179040), ("sha256", "0" * 64)]),
    Link("train", "trained", [("seed", "0")], (), ["cannot be told here: pull"]),
    Link("commit", "recorded", [], ["is gone: bring it back"]),
)


@pytest.mark.parametrize(
    ("links", "code", "words"),
    [
        (LINKS[:1], 0, "m: the chain is whole, from the file to the commit"),
        (LINKS[:2], 0, "m: nothing is broken, but train could not be checked as a whole"),
        (LINKS, 1, "m: the chain is broken at commit"),
    ],
)
def test_the_answer_is_one_sentence_and_an_exit_code(links: Sequence[Link], code: int, words: str) -> None:
    found = Chain("m", links, ())
    assert (found.code, found.sentence()) == (code, words)
    assert found.as_json()["state"] == found.state.value
    assert found.as_json()["links"][0]["facts"] == {"bytes": 179040, "sha256": "0" * 64}


def test_the_text_names_what_is_broken_and_open_in_a_terminal_and_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Chain("m", LINKS, ())
    lines = list(text.plain(found))
    assert lines[0].startswith("[ok    ] file    m.onnx <&>")
    assert any(line.strip() == "? cannot be told here: pull" for line in lines)
    assert lines[1].split() == ["bytes", "179,040"]
    assert any(line.strip() == "! is gone: bring it back" for line in lines)
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    terminal.print(text._tree(found))
    assert "is gone: bring it back" in terminal.file.getvalue()  # type: ignore[attr-defined]
    many = Link("settings", "many", [(str(number), "x") for number in range(100)])
    assert "60 more, which --json shows" in "\n".join(text.plain(Chain("m", [many], ())))


def test_the_picture_is_svg_in_which_every_link_and_ancestor_has_its_place(tmp_path: Path) -> None:
    family = told(tmp_path)[2]
    root = ElementTree.fromstring(picture.draw(Chain("m", LINKS, family)))
    words = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    for start in ("file", "train", "commit", "trial 3", "trial 2", "trial 0", "trial 1", "m: the chain is broken"):
        assert any(line.startswith(start) for line in words), words
    assert any("m.onnx <&>" in line for line in words)
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        left, top, wide, high = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= left <= left + wide <= width
        assert 0 <= top <= top + high <= height


def test_a_long_family_is_cut_and_says_so() -> None:
    family = [Ancestor(number, [number - 1] if number else [], "made", "0.5") for number in reversed(range(40))]
    drawn = picture.draw(Chain("m", LINKS, family))
    assert "trial 39" in drawn
    assert "trial 3<" not in drawn
    assert "and the trials before these" in drawn
    assert "Where the architecture comes from" not in picture.draw(Chain("m", LINKS, ()))


def test_the_command_says_in_a_sentence_what_is_wrong_with_the_call(tmp_path: Path) -> None:
    with inside(tmp_path):
        for words, reason in ((["why"], "holds no dvc.lock"), (["why", "--picture", "a.png"], "name a file that ends with .svg")):
            answer = nasflow(*words)
            assert (answer.code, answer.errors.count("\n")) == (1, 1)
            assert reason in answer.errors
        (tmp_path / "dvc.lock").write_text("stages: [1]\n")
        assert "dvc.lock is not what DVC writes" in nasflow("why").errors
        (tmp_path / "dvc.lock").write_text("stages: {\n")
        assert "not valid YAML" in nasflow("why").errors
