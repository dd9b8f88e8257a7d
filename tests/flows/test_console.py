"""What a person sees: live text is text, and the summary is what is there."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from flows import console, results

BRACKETS = "expected [/cpu] beside [word] and [bold]"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal that keeps what it shows."""
    shown = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda: Console(file=shown, force_terminal=True, width=200, color_system=None))
    return shown


def test_brackets_in_progress_and_tables_are_shown_as_they_are(tmp_path: Path, terminal: io.StringIO) -> None:
    with console.progress(tmp_path, "search", 2) as report:
        report(1, BRACKETS)
    assert BRACKETS in terminal.getvalue()
    terminal.truncate(0)
    console.table(f"title {BRACKETS}", [("label", BRACKETS), ("[/x]", "1")])
    assert terminal.getvalue().count(BRACKETS) == 2
    assert "[/x]" in terminal.getvalue()


def test_after_some_stages_their_own_results_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in ("prepare", "search"):
        (tmp_path / "results" / stage).mkdir(parents=True)
        summary = console.summary(f"Result of {stage}", [("images", f"{stage} 8 x 8")])
        (tmp_path / "results" / stage / "summary.json").write_text(json.dumps(summary))
    results.show_after(tmp_path, ["prepare"])
    assert capsys.readouterr().out == "Result of prepare\n  images  prepare 8 x 8\n"
    results.show_after(tmp_path, ["prepare", "search", "train"])
    assert capsys.readouterr().out.count("Result of") == 2
