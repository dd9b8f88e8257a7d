"""The contracts hold components from outside this repository: those of the documents keep to them, and broken ones are told the rule."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import nas.testing

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent

STATE = "test_a_state_that_is_saved_and_loaded_after_every_answer_changes_nothing"
PROPOSALS = "test_proposals_lie_in_the_space_and_the_seed_decides_them[1]"
SHAPE = "test_every_sampled_architecture_trains_a_step[(7, 7, 1)]"
BROKEN = {
    f"TestUnseeded::{PROPOSALS}": "two searches of one seed differ, trial 0 has architecture .*: draw from the rng that ask is given",
    "TestUnseeded::test_only_the_generator_is_random": "one history and one generator gave .* draw from the rng alone",
    f"TestForgetful::{STATE}": "a search that is killed after every answer .* return from state_dict all that ask and tell remember",
    "TestForgetful::test_killed_and_resumed_equals_never_killed[1]": "resumed from its journal differs .* trial 1 has architecture",
    f"TestOutside::{PROPOSALS}": "trial 20: ask proposed an architecture outside the space: a is 'conv7': pick one of none, skip",
    f"TestArrays::{STATE}": r"the state\['weights'\] is a ndarray: state_dict returns tensors, numbers, text, lists and dicts",
    "TestMeddler::test_asking_changes_no_history": "ask changed the history, which belongs to the search",
    "TestTrusting::test_trials_that_failed_or_were_rejected_are_told_too": "tell raised AttributeError .* for a trial that is failed",
    f"TestUnwritten::{STATE}": r"TestUnwritten does not say what to test: write make\(self\)",
    "TestMerging::test_architectures_of_one_form_are_one_function": "one canonical form and are not one function: canonical leaves out",
    "TestEager::test_choices_are_stable_and_cost_no_memory": "define puts weights on a device of its own",
    "TestEager::test_equal_seeds_build_equal_weights": "one seed built two networks: draw weights from torch's global generator alone",
    f"TestHeadless::{SHAPE}": r"gives \(1, 10\): end with task.head, which gives \(1, 3\)",
    "TestUneven::test_a_space_shares_weights_or_refuses_in_a_sentence": "of the supernet computes otherwise than the network built alone",
    "TestDrifting::test_what_remembers_nothing_does_not_depend_on_what_came_before": (
        "in another order trials were reported otherwise, trial 0 has metrics .*; commit_every is 1, which says that nothing is remembered"
    ),
    "TestAmnesiac::test_what_is_remembered_survives_a_kill": "killed after every trial the reports differ, .* return from state_dict",
    "TestAmnesiac::test_a_search_that_is_killed_equals_one_that_is_not": "a search that was killed and resumed differs",
    "TestPeeking::test_the_same_trials_give_the_same_reports": "reported otherwise, .*: draw from the bench's seed and the trial's number",
    "TestPeeking::test_a_report_holds_the_metrics_that_are_promised": r"evaluate read \['test'\]: candidates are trained on 'fit'",
    "TestPeeking::test_what_is_known_without_training_needs_no_data": r"inspect read \['fit'\]: return only what is known",
    "TestPeeking::test_a_key_stands_for_one_function": "one key: the second is never evaluated",
    "TestPeeking::test_what_is_provided_is_given": "a mixture is evaluated, but 'gradient' is not provided: raise ValueError",
    "TestCareless::test_head_and_loss_learn": "the loss does not fall",
    "TestCareless::test_metrics_have_their_names_and_are_plain_numbers": "the metric accuracy is a Tensor: return floats of Python",
    "TestCareless::test_a_report_can_be_written": "predictions gives 0 pairs for",
    "TestCareless::test_what_ships_takes_bytes_and_names_its_outputs": "what ships returns a Tensor: return a tuple",
    "TestCareless::test_data_of_another_task_are_refused": "bind takes data that were prepared for 'juggling'",
}
"""What is broken in tests/nas/testing/broken_strangers.py, and what is said of it."""


def pytest_in(folder: Path, *arguments: str) -> tuple[dict[str, str], str]:
    """Run pytest there, as a stranger would: what each test that was run said when it failed, '' for one that passed; and the output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=found.xml", *arguments]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False)
    cases = ElementTree.parse(folder / "found.xml").iter("testcase")
    found = {}
    for case in cases:
        failures = [part.get("message") or "" for part in case if part.tag in ("failure", "error")]
        found[f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"] = " ".join(failures)
    return found, run.stdout + run.stderr


def shown(document: Path) -> dict[str, str]:
    """The Python files that a document shows, by the path that it last named before each."""
    text, files, last = document.read_text(), dict[str, str](), 0
    for block in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        named = re.findall(r"`([\w/]+\.py)`", text[last : block.start()])
        assert named, f"name the file of {block[1][:60]!r} in backticks before it"
        files[named[-1]], last = block[1], block.end()
    return files


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository with the package of the document, and the broken components."""
    folder = tmp_path_factory.mktemp("strangers")
    for name, source in shown(ROOT / "docs" / "extending.md").items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source)
    (folder / "test_broken.py").write_text((HERE / "broken_strangers.py").read_text())
    return folder


def test_the_components_of_the_document_keep_their_contracts(strangers: Path) -> None:
    found, output = pytest_in(strangers, "test_my_package.py")
    assert {name: said for name, said in found.items() if said} == {}, output
    run = {name.partition("::")[0] for name in found}
    assert run == {"TestClimber", "TestTiny", "TestRating", "TestBrief"}, output
    promised = [*methods("strategy"), *methods("space"), *methods("task"), *methods("evaluator")]
    assert len(promised) > 40
    assert set(promised) <= {name.partition("::")[2].partition("[")[0] for name in found}


def methods(part: str) -> list[str]:
    """The tests of a contract."""
    path = Path(nas.testing.__file__).with_name(f"{part}.py")
    kinds = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    return [node.name for node in ast.walk(kinds[0]) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_broken_components_are_told_the_rule(strangers: Path) -> None:
    found, output = pytest_in(strangers, *(f"test_broken.py::{name}" for name in BROKEN))
    assert set(found) == set(BROKEN), output
    wrong = {name: found[name] for name, rule in BROKEN.items() if not re.search(rule, found[name], re.DOTALL)}
    assert wrong == {}


def test_without_pytest_the_cure_is_one_sentence() -> None:
    code = "import sys; sys.modules['pytest'] = None; import nas.testing"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr.strip().splitlines()[-1] == (
        "ModuleNotFoundError: nas.testing runs with pytest, which is not installed: pip install nasflow[test]"
    )
    with pytest.raises(AttributeError, match=r"nas\.testing has no PictureContract: it has EvaluatorContract, "):
        _ = nas.testing.PictureContract
