"""Pictures for people who open a results folder: search progress, training curve, confusion matrix.

Equal data give files of equal bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.ticker

mpl.use("Agg")

import matplotlib.pyplot as plt

_INK, _ACCENT, _SOFT = "#1f2933", "#0b6e99", "#9fb3c8"
_LARGE = 10_000
"""From here on the numbers of an axis are written with a letter, as 1.2M."""
_STYLE: Any = {
    "figure.figsize": (7, 4),
    "figure.dpi": 120,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.formatter.useoffset": False,
    "font.size": 9,
}


def search_progress(path: Path, curve: Sequence[tuple[int, float, float]], metric: str) -> None:
    """Draw every trial's score as a point and the best so far as a line; `curve` holds (trial, score, best so far)."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots()
        numbers = [row[0] for row in curve]
        axes.scatter(numbers, [row[1] for row in curve], s=18, color=_SOFT, label="trial", zorder=3)
        axes.step(numbers, [row[2] for row in curve], where="post", color=_ACCENT, label="best so far")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        _finish(figure, axes, path, ("Search progress", "trial", f"{metric} on select"))


def front(path: Path, rows: Sequence[tuple[float, float, float, float, bool]], names: tuple[str, str]) -> None:
    """Draw what networks cost against how good they are: (cost, value, lowest and highest cost, on the Pareto front).

    names: of the value and of the cost.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots()
        for label, chosen, color in (("trial", False, _SOFT), ("Pareto front", True, _ACCENT)):
            mine = sorted(row for row in rows if row[4] is chosen)
            if mine:
                costs, values = [row[0] for row in mine], [row[1] for row in mine]
                apart = [[row[0] - row[2] for row in mine], [row[3] - row[0] for row in mine]]
                axes.errorbar(costs, values, xerr=apart, fmt="o", markersize=4, elinewidth=0.8, color=color, label=label, zorder=3 + chosen)
        bars = " (bars: 95% intervals)" if any(row[2] < row[3] for row in rows) else ""
        _finish(figure, axes, path, (f"What it costs to be good{bars}", names[1], f"{names[0]} on select"))


def training_curve(path: Path, rows: Sequence[Mapping[str, Any]], metric: str) -> None:
    """Draw a metric over epochs, one line per seed; rows have `seed`, `epoch` and the metric."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots()
        column = metric if rows and metric in rows[0] else "training_loss"
        for seed in sorted({row["seed"] for row in rows}):
            mine = [row for row in rows if row["seed"] == seed]
            axes.plot([row["epoch"] for row in mine], [row[column] for row in mine], label=f"seed {seed}", linewidth=1.3)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        _finish(figure, axes, path, ("Training of the winner", "epoch", f"{column} on confirm" if column == metric else "training loss"))


def confusion(path: Path, pairs: Sequence[tuple[str, str]], classes: Sequence[str]) -> None:
    """Draw counts of (actual, predicted) class pairs; numbers are written where there are at most 20 classes."""
    index = {name: position for position, name in enumerate(classes)}
    counts = [[0] * len(classes) for _ in classes]
    for actual, predicted in pairs:
        counts[index[actual]][index[predicted]] += 1
    top = max(1, max(max(row) for row in counts))
    with mpl.rc_context({**_STYLE, "figure.figsize": (6.2, 5.6)}):
        figure, axes = plt.subplots()
        axes.imshow(counts, cmap="Blues", norm=mpl.colors.PowerNorm(0.4, 0, top))
        if len(classes) <= 20:
            for row, values in enumerate(counts):
                for column, count in enumerate(values):
                    if count:
                        axes.text(
                            column, row, str(count), ha="center", va="center", fontsize=7, color="white" if count > 0.3 * top else _INK
                        )
            # Turned names end below their columns; set in their middle they would lie below the next.
            turned: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, classes)) > 3 else {}
            axes.set_xticks(range(len(classes)), classes, **turned)
            axes.set_yticks(range(len(classes)), classes)
        _finish(figure, axes, path, ("Confusion on test", "predicted", "actual"))


def _finish(figure: Any, axes: Any, path: Path, texts: tuple[str, str, str]) -> None:
    axes.set_title(texts[0])
    axes.set_xlabel(texts[1])
    axes.set_ylabel(texts[2])
    if axes.get_legend_handles_labels()[1]:
        # Above the axes, where no data can lie below it.
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=4, columnspacing=1.2)
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if max(map(abs, limits)) >= _LARGE:
            axis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))
    figure.tight_layout()
    # Without a fixed value the library writes its version into the file, and equal data would differ in bytes.
    figure.savefig(path, metadata={"Software": "nasflow"})
    plt.close(figure)
