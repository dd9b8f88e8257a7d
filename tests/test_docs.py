"""The documents: what they name exists. That what extending.md shows runs is held in tests/nas/testing/test_strangers.py."""

import re
from pathlib import Path

import pytest
from typer import Context
from typer.main import get_command

from flows.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_exists(document: Path) -> None:
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    paths = re.findall(r"`((?:flows|nas|export|tests|docs|benchmarks)/[\w./]*\w)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_and_command_named_exists(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z][\w-]*)", text)) <= targets
    found = {first or second for first, second in re.findall(r"`nasflow ([a-z-]+)|^nasflow ([a-z-]+)", text, re.MULTILINE)}
    assert found <= set(get_command(app).list_commands(Context(get_command(app))))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_is_left_to_fill_in(document: Path) -> None:
    assert "@@" not in document.read_text()
