"""Charts as SVG, drawn here and not in the browser: they print, and are there without a script.

A point is a link to the trial's row of the table, and says what it is in a title; the page's script shows that at once.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from flows.report.html import Markup, element, plain
from flows.report.words import short

WIDTH, HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 44
_LETTER, _BESIDE = 9, 28
"""Pixels of a letter of a tick, in the larger type of a narrow screen, and beside the ticks for the label of the axis."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@final
@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` on the pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Iterable[float], start: float, end: float) -> "Scale":
        """A scale that holds all values, with room at both ends."""
        known = list(values) or [0.0, 1.0]
        low, high = min(known), max(known)
        room = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        """Where a value lies, in pixels."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int = 6, whole: bool = False) -> list[float]:
        """Round values in the range, at most about `most`; `whole` for counts."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in _STEPS if power * factor >= rough * 0.999)
        step = max(1.0, math.ceil(step)) if whole else step
        first = math.ceil(self.low / step)
        return [round(index * step, 12) for index in range(first, math.floor(self.high / step) + 1)]

    def fitting(self, whole: bool = False) -> list[float]:
        """Ticks of a horizontal axis, as many as can stand beside each other."""
        for most in (6, 5, 4, 3):
            found = self.ticks(most, whole)
            if _widest(found) * len(found) <= abs(self.end - self.start):
                return found
        return self.ticks(2, whole)


@final
@dataclass(frozen=True, slots=True)
class Point:
    """A trial in a chart. `kind`: its CSS class; `low` and `high` the interval of x."""

    x: float
    y: float
    text: str
    trial: int | None = None
    kind: str = "trial"
    low: float | None = None
    high: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; `stepped` where the value holds until the next."""

    points: Sequence[tuple[float, float]]
    kind: str
    stepped: bool = False


@final
@dataclass(frozen=True, slots=True)
class Band:
    """An area between two lines: (x, low, high)."""

    points: Sequence[tuple[float, float, float]]
    kind: str = "band"


@final
@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn, back to front: bands, lines, points. `summary` says in words what a person who cannot see it should know."""

    summary: str
    x_label: str
    y_label: str
    points: Sequence[Point] = ()
    lines: Sequence[Line] = ()
    bands: Sequence[Band] = ()
    whole: bool = False

    def svg(self) -> Markup:
        """The chart as an element."""
        y = Scale.of(self._values(1), HEIGHT - _BOTTOM, _TOP)
        x = Scale.of(self._values(0), max(_LEFT, _BESIDE + _widest(y.ticks())), WIDTH - _RIGHT)
        parts = [*_axes(x, y, self)]
        parts += [_area(band, x, y) for band in self.bands]
        parts += [_path(line, x, y) for line in self.lines]
        parts += [mark for point in self.points for mark in _mark(point, x, y)]
        # A group and no image, because the points in it can be reached one by one.
        frame = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "class": "chart", "role": "group", "aria-label": self.summary}
        return element("svg", frame, *parts)

    def _values(self, axis: int) -> list[float]:
        values = [(point.x, point.y)[axis] for point in self.points] + [place[axis] for line in self.lines for place in line.points]
        if axis == 0:
            ends = [end for point in self.points for end in (point.low, point.high) if end is not None]
            return values + ends + [place[0] for band in self.bands for place in band.points]
        return values + [place[side] for band in self.bands for place in band.points for side in (1, 2)]


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """What the marks of a chart mean: (CSS class, words); a class that begins with `line` or `band` is drawn as one."""
    items = []
    for kind, words in entries:
        if kind.startswith("band"):
            mark = element("rect", {"x": 1, "y": 3, "width": 18, "height": 8, "class": kind})
        elif kind.startswith("line"):
            mark = element("line", {"x1": 1, "y1": 7, "x2": 19, "y2": 7, "class": kind})
        else:
            mark = element("circle", {"cx": 10, "cy": 7, "r": 4, "class": f"point {kind}"})
        sign = element("svg", {"viewBox": "0 0 20 14", "class": "sign", "aria-hidden": "true"}, mark)
        items.append(element("li", None, sign, words))
    return element("ul", {"class": "legend"}, *items)


def interval(value: float, low: float | None, high: float | None, reach: float) -> Markup:
    """A value with its interval beside zero, on a scale from -reach to reach; for a cell of a table."""
    scale = Scale(-reach, reach, 4, 156)
    parts = [element("line", {"x1": scale(0), "y1": 1, "x2": scale(0), "y2": 15, "class": "axis"})]
    if low is not None and high is not None:
        ends = {"x1": scale(max(low, -reach)), "x2": scale(min(high, reach)), "y1": 8, "y2": 8}
        parts.append(element("line", {**ends, "class": "whisker"}))
    sure = low is not None and high is not None and (low > 0 or high < 0)
    parts.append(element("circle", {"cx": scale(value), "cy": 8, "r": 3.5, "class": f"point {'best' if sure else 'trial'}"}))
    return element("svg", {"viewBox": "0 0 160 16", "class": "interval", "aria-hidden": "true"}, *parts)


def _widest(ticks: Iterable[float]) -> float:
    """Pixels that the longest label takes, with a letter between it and the next."""
    return _LETTER * max((len(short(tick)) + 1 for tick in ticks), default=0)


def _axes(x: Scale, y: Scale, chart: Chart) -> list[Markup]:
    left, right, bottom, top = x.start, x.end, y.start, y.end
    parts = []
    for tick in y.ticks():
        place = y(tick)
        parts.append(element("line", {"x1": left, "y1": place, "x2": right, "y2": place, "class": "grid"}))
        parts.append(element("text", {"x": left - 6, "y": place + 4, "class": "tick end"}, short(tick)))
    for tick in x.fitting(chart.whole):
        place = x(tick)
        parts.append(element("line", {"x1": place, "y1": bottom, "x2": place, "y2": bottom + 4, "class": "axis"}))
        parts.append(element("text", {"x": place, "y": bottom + 17, "class": "tick middle"}, short(tick)))
    parts.append(element("line", {"x1": left, "y1": bottom, "x2": right, "y2": bottom, "class": "axis"}))
    parts.append(element("text", {"x": (left + right) / 2, "y": HEIGHT - 6, "class": "label middle"}, chart.x_label))
    turned = {"transform": f"translate(13 {plain((bottom + top) / 2)}) rotate(-90)", "class": "label middle"}
    parts.append(element("text", turned, chart.y_label))
    return parts


def _mark(point: Point, x: Scale, y: Scale) -> list[Markup]:
    parts = []
    if point.low is not None and point.high is not None and point.high > point.low:
        ends = {"x1": x(point.low), "y1": y(point.y), "x2": x(point.high), "y2": y(point.y)}
        parts.append(element("line", {**ends, "class": "whisker"}))
    title = element("title", None, point.text)
    radius = 5.5 if point.kind == "winner" else 4
    dot = element("circle", {"cx": x(point.x), "cy": y(point.y), "r": radius, "class": f"point {point.kind}"}, title)
    if point.trial is None:
        return [*parts, dot]
    target = {"href": f"#trial-{point.trial}", "data-tip": point.text, "aria-label": point.text}
    return [*parts, element("a", target, dot)]


def _path(line: Line, x: Scale, y: Scale) -> Markup:
    commands, before = [], None
    for place in line.points:
        across, up = plain(x(place[0])), plain(y(place[1]))
        if before is None:
            commands.append(f"M{across} {up}")
        else:
            commands.append(f"H{across}V{up}" if line.stepped else f"L{across} {up}")
        before = place
    return element("path", {"d": "".join(commands), "class": line.kind})


def _area(band: Band, x: Scale, y: Scale) -> Markup:
    upper = [f"{plain(x(place))} {plain(y(high))}" for place, _, high in band.points]
    lower = [f"{plain(x(place))} {plain(y(low))}" for place, low, _ in reversed(band.points)]
    return element("path", {"d": f"M{'L'.join([*upper, *lower])}Z", "class": band.kind})
