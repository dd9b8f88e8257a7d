"""report: everything that was found on one page, with how sure it is and where it comes from."""

from pathlib import Path
from typing import Any

from flows import console, tables
from flows.report import answer, facts, page, progress
from flows.report.facts import Facts
from flows.run_folder import publish
from flows.settings import Settings
from nas import atomic

FILE = "report.html"


def run(root: Path, settings: Settings, record: dict[str, Any]) -> None:
    """Write results/report.html, and what it shows as tables and plots of DVC and Prefect to results/report.

    Reads nothing but the results of the other stages, so equal results give an equal page.
    """
    with publish(root, "report", record) as folder, console.progress(root, "report", 1) as report:
        found = facts.read(root / "results")
        parts = page.sections(found)
        text = page.page(found, parts)
        tables.write(folder / "progress.csv", ["trial", "best", "random", "random_low", "random_high"], _progress(found))
        tables.write(folder / "choices.csv", ["choice", "option", "trials", "effect", "low", "high"], _effects(found))
        atomic.write_text(folder / "tables.md", page.markdown(parts))
        rows = [("report", f"results/{FILE}"), *answer.rows(found), *(("search", sentence) for sentence in progress.besides(found))]
        atomic.write_json(folder / "summary.json", console.summary("Report", rows))
        report(1, f"results/{FILE}, {len(text.encode()) / 1024:.0f} KiB")
    # After the folder, so that nothing is written when an input has changed meanwhile; a kill in between leaves the stage to run again.
    atomic.write_text(root / "results" / FILE, text)


def _progress(found: Facts) -> list[list[Any]]:
    random = {number: rest for number, *rest in progress.curve(found)}
    return [[number, value, *random.get(number, ["", "", ""])] for number, value in progress.best_so_far(found)]


def _effects(found: Facts) -> list[list[Any]]:
    rows = [] if found.effects is None else found.effects.effects
    return [[row.choice, row.option, row.trials, row.value, row.low, row.high] for row in rows]
