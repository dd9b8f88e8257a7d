"""The summary a person reads at the end of a run, from what the stages published."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows import console, records
from flows.candidates import FILE
from flows.records import shown
from nas.objective import Objective

SOURCES = ("search/best.json", "train/details.json", "export/manifest.json")
PLOTS = ("search/progress.png", "search/pareto.png", "train/training.png", "train/confusion.png")


_VERDICTS = {"within noise": "within noise", "higher": "higher than the search said", "lower": "lower than the search said"}


def show(root: Path) -> None:
    """Print the winner, its scores, the file and the plots. Raises ValueError when there are no results yet."""
    results = root / "results"
    best, trained, manifest = (records.read(results / name) for name in SOURCES)
    best |= _shipped(results)
    rows = [("best architecture", words(best)), ("parameters", f"{best['metrics']['select']['parameters']:,.0f}")]
    rows += scores(trained, manifest)
    page = results / "export" / "web" / "index.html"
    rows += [
        ("latency", latency(manifest)),
        *((f"demanded {name}", held) for name, held in demands(best, manifest).items()),
        ("model", model(manifest)),
        ("variant", manifest["why"]),
        ("file", shown(results / "export" / "model.onnx")),
        ("try it", f"python {shown(results / 'export' / 'predict.py')} IMAGE"),
        ("in a browser", shown(page) if page.exists() else "nasflow run --set export.web=true adds a page that runs the model"),
        *([("report", shown(results / "report.html"))] if (results / "report.html").exists() else []),
        ("plots", "\n".join(shown(results / name) for name in PLOTS if (results / name).exists())),
    ]
    console.table("nasflow", rows)


def _shipped(results: Path) -> dict[str, Any]:
    """What the search says of the candidate that was trained, which need not be its winner; nothing where it does not offer it."""
    trial = records.read(results / "train" / "architecture.json", "trial")["trial"]
    offered = records.read_list(results / "search" / FILE, "trial")
    return next((candidate for candidate in offered if candidate["trial"] == trial), {})


def show_after(root: Path, stages: Sequence[str]) -> None:
    """Print what `show` does when every result is there, else what each of `stages` says of itself."""
    results = root / "results"
    if all((results / name).exists() for name in SOURCES):
        show(root)
        return
    for path in (results / stage / "summary.json" for stage in stages):
        if path.exists():
            summary = records.read(path, "title", "lines")
            console.table(summary["title"], [(str(label), str(value)) for label, value in summary["lines"]])


def latency(manifest: Mapping[str, Any]) -> str:
    """Return what the file takes where it was measured, as the manifest says."""
    found = manifest["latency"]
    doubt = "; the machine was not steady" if not found["steady"] else ""
    how = f"batch {found['batch_size']}, {found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    return f"{found['ms']:.3g} ms ({found['low']:.3g} to {found['high']:.3g}), {how}, on {found['processor']}{doubt}"


def demands(best: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return how every constraint of the objective is held: by the file, or where a file cannot tell, by what the search measured.

    best: best.json with the record of the candidate that ships.
    """
    objective, metrics = Objective.model_validate(best["objective"]), best["metrics"]["select"]
    found = {name: f"{held}: met" for name, held in manifest["constraints"].items()}
    for name, bound in objective.constraints.items():
        if name not in found and name in metrics:
            told = "not met" if objective.model_copy(update={"constraints": {name: bound}}).broken(metrics) else "met"
            found[name] = f"{metrics[name]:.10g} {bound}: {told} in the search"
    return found


def model(manifest: Mapping[str, Any]) -> str:
    """Return what file it is, and how far it follows PyTorch."""
    examples, size = manifest["parity"]["examples"], f"{manifest['bytes'] / 1024:.0f} KiB"
    if manifest["ships"] == "float":
        return f"{size}, same predictions as PyTorch on {examples} test images"
    agreement = manifest["variants"][manifest["ships"]]["agreement"]
    return f"{size}, {manifest['ships']}, the predictions of PyTorch on {agreement:.1%} of {examples} test images"


def words(best: Mapping[str, Any]) -> str:
    """Return the winner of best.json for a person: decisions that matter, one line per part of the network."""
    return "\n".join([f"space {best['space']['name']}", *parts(best["decisions"])])


def parts(decisions: Mapping[str, str]) -> list[str]:
    """Return choices with their options for a person: one line per part of the network."""
    found: dict[str, list[str]] = {}
    for name, option in decisions.items():
        part, _, decision = name.rpartition(".")
        found.setdefault(part, []).append(f"{decision} {option}")
    return [f"{part}: {', '.join(answers)}" if part else ", ".join(answers) for part, answers in found.items()]


def searched(metric: str, select: float | None, confirm: float | None) -> str:
    """Return what a search says of an architecture; None where it trains nothing and so cannot tell."""
    if select is None or confirm is None:
        return f"{metric} is not known before the training"
    return f"{metric} {select:.4f} on select, {confirm:.4f} on confirm"


def _against(comparison: Mapping[str, Any]) -> str:
    return f"{comparison['difference']:+.4f}, noise ±{comparison['noise']:.4f}: {_VERDICTS[comparison['verdict']]}"


def scores(metrics: Mapping[str, Any], manifest: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """Return what a person wants to know of train's details.json, as rows of a table; and of the file where there is one already."""
    name, comparison, found, seeds = metrics["metric"], metrics["comparison"], metrics["search"], len(metrics["seeds"])
    # One seed has no spread, and a zero would claim to know it.
    spread = f" ± {metrics['test_std'][name]:.4f}" if seeds > 1 else ""
    return [
        ("search score", searched(name, found["select"], found["confirm"])),
        ("retrained", f"{name} {metrics['test'][name]:.4f}{spread} on test, {seeds} seed{'s' if seeds > 1 else ''}"),
        *([("against search", _against(comparison))] if comparison is not None else []),
        ("ships", f"seed {metrics['shipped']['seed']}, {name} {metrics['shipped'][name]:.4f} on test{_coarser(name, manifest)}"),
    ]


def _coarser(metric: str, manifest: Mapping[str, Any] | None) -> str:
    """What a file scores that computes coarser than the weights from which it was made."""
    if manifest is None or manifest["ships"] == "float":
        return ""
    return f" in floats, {manifest['test'][metric]:.4f} as the {manifest['ships']} file"
