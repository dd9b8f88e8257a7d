"""The pictures of a results folder: what they say can be read, wherever the data lie, and equal data give equal bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import plots

CURVE = [(number, 0.5 + 0.01 * (number % 7), 0.5 + 0.01 * min(number, 6)) for number in range(20)]
EPOCHS = [{"seed": seed, "epoch": epoch, "accuracy": 1 - 1 / (epoch + seed)} for seed in range(9) for epoch in range(1, 9)]


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Draws a picture twice, into equal files, and gives its figure."""
    kept: list[Any] = []
    monkeypatch.setattr(plots.plt, "close", kept.append)

    def draw(function: Callable[..., None], *given: Any) -> Any:
        for name in ("one.png", "two.png"):
            function(tmp_path / name, *given)
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
        kept[-1].canvas.draw()
        return kept[-1]

    return draw


def words(figure: Any) -> list[str]:
    """The title and the ticks of both axes."""
    [axes] = figure.axes
    return [axes.get_title("left"), *(tick.get_text() for axis in (axes.xaxis, axes.yaxis) for tick in axis.get_ticklabels())]


@pytest.mark.parametrize("data", [(plots.search_progress, CURVE, "accuracy"), (plots.training_curve, EPOCHS, "accuracy")])
def test_a_legend_lies_over_no_data(drawn: Callable[..., Any], data: tuple[Any, ...]) -> None:
    [axes] = drawn(*data).axes
    assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1 - 1


def test_large_costs_are_written_with_letters_and_bars_are_told_where_there_are_some(drawn: Callable[..., Any]) -> None:
    rows = [(1_234_567, 0.93, 1_234_567, 1_234_567, True), (1_734_567, 0.95, 1_734_567, 1_734_567, False)]
    said = words(drawn(plots.front, rows, ("accuracy", "parameters")))
    assert said[0] == "What it costs to be good"
    assert "1.5M" in said
    said = words(drawn(plots.front, [(0.03, 0.93, 0.02, 0.05, True)], ("accuracy", "latency_ms")))
    assert said[0] == "What it costs to be good (bars: 95% intervals)"
    assert not any(text.endswith(("m", "M", "k")) for text in said[1:])


def test_long_names_of_classes_do_not_lie_over_each_other(drawn: Callable[..., Any]) -> None:
    classes = ["aeroplane", "automobile", "cat", "a very long name of a class"]
    [axes] = drawn(plots.confusion, [(name, name) for name in classes], classes).axes
    ends = [tick.get_window_extent().x1 for tick in axes.get_xticklabels()]
    columns = [axes.transData.transform((place, 0))[0] for place in range(len(classes))]
    assert ends == pytest.approx(columns, abs=12), "each ends below its column"
