"""The documents: what they show runs, and what they name exists."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from nas.architecture import Choice, Choices
from nas.data.dataset import Description
from nas.tasks.image_classification import ImageClassification

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModuleType]]:
    """The Python files shown in docs/extending.md, imported, by the name of their class."""
    folder, modules = tmp_path_factory.mktemp("examples"), {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL):
        name = re.findall(r"^class (\w+)", code, re.MULTILINE)[0]
        (folder / f"{name.lower()}.py").write_text(code)
        spec = importlib.util.spec_from_file_location(f"example_{name.lower()}", folder / f"{name.lower()}.py")
        assert spec is not None
        assert spec.loader is not None
        modules[name] = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[name])
    yield modules
    for module in modules.values():
        del sys.modules[module.__name__]


def test_the_strategy_shown_proposes(examples: dict[str, Any]) -> None:
    choices = Choices([Choice("a", ("x", "y")), Choice("b", ("x", "y", "z"))])
    strategy = examples["Climber"].Climber(beginning=1).bind(choices)
    choices.check(strategy.ask([], np.random.default_rng(0)).architecture)


def test_the_space_shown_builds(examples: dict[str, Any]) -> None:
    described = Description(
        task="image_classification",
        source={"name": "digits"},
        input_shape=(8, 8, 1),
        input_dtype="uint8",
        classes=["a", "b"],
        counts={},
        class_counts={},
        mean=[0.0],
        std=[1.0],
        digest="",
    )
    task, space = ImageClassification().bind(described), examples["Tiny"].Tiny()
    choices = space.choices(task)
    assert choices.size == 4
    network = space.build(choices.sample(np.random.default_rng(0)), task)
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 2)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_exists(document: Path) -> None:
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    paths = re.findall(r"`((?:flows|nas|export|tests|docs|benchmarks)/[\w./]*\w)`", text)
    shown = {"nas/strategies/climber.py", "nas/spaces/tiny.py"}
    assert [path for path in paths if path not in shown and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_and_command_named_exists(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z][\w-]*)", text)) <= targets
    commands = set(re.findall(r"^def ([a-z]+)\(", (ROOT / "flows/cli.py").read_text(), re.MULTILINE)) | {"schema"}
    assert set(re.findall(r"`nasflow ([a-z]+)|^nasflow ([a-z]+)", text, re.MULTILINE)) <= {
        pair for name in commands for pair in ((name, ""), ("", name))
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_is_left_to_fill_in(document: Path) -> None:
    assert "@@" not in document.read_text()
