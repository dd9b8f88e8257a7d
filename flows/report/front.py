"""What it costs to be good: the trials by their measure and each of their costs, and the front that nothing dominates."""

from collections.abc import Mapping, Sequence

from flows.report.charts import Chart, Line, Point, legend
from flows.report.facts import Facts, Row
from flows.report.html import Content, Markup, Section, Table, Value, element, note, paragraph
from flows.report.words import count, figure, label
from nas.trial import Score

_COSTS = ("latency_ms", "parameters", "flops", "bytes", "peak_memory")


def section(facts: Facts) -> Section:
    """One chart per cost, and with several objectives how the front grew, of which one is shown."""
    names = costs(facts)
    if not names or not facts.scored:
        return Section("front", "What it costs to be good", [paragraph("No trial reports a cost.")], wide=False)
    marks = legend([("trial", "trial"), ("best", "on the front"), ("winner", "what ships")])
    panels = {label(name): (chart(facts, name).svg(), marks) for name in names}
    table = members(facts)
    words = note(
        f"Bars are 95% intervals of what was measured with noise. On the front: no trial has a better {facts.measure} at no greater cost, "
        f"and a smaller cost counts where the intervals do not touch. A point leads to its trial.{_quantized(facts, names)}"
    )
    shown = _tabs({**panels, **growth(facts)})
    return Section("front", "What it costs to be good", [shown, words, table.html()], [table], wide=False)


def growth(facts: Facts) -> dict[str, Sequence[Content]]:
    """With several objectives, how the whole front grew, under the name of its tab."""
    rows = [(int(row["trial"]), float(row["hypervolume"])) for row in facts.history if row["hypervolume"]]
    if len(facts.best["objective"]["metrics"]) < 2 or not rows:
        return {}
    summary = f"hypervolume of the Pareto front after each trial, in the end {figure(rows[-1][1])}"
    drawn = Chart(summary, "trial", "hypervolume", lines=[Line(rows, "line best", stepped=True)], whole=True).svg()
    words = "Hypervolume: what the front dominates above the worst of every objective, in the product of their units."
    return {"how the front grew": (drawn, note(words))}


def _tabs(panels: Mapping[str, Sequence[Content]]) -> Markup:
    """Panels of which one is shown; without a script too, since buttons of a form choose it."""
    parts: list[Content] = []
    if len(panels) > 1:
        # Before the charts and their siblings, because a stylesheet can only look forward.
        for index, name in enumerate(panels):
            choice: dict[str, Value] = {"type": "radio", "name": "cost", "id": f"cost-{index}", "class": "pick", "checked": index == 0}
            parts += [element("input", choice), element("label", {"for": f"cost-{index}"}, name)]
    shown = [element("div", {"class": "panel"}, *content) for content in panels.values()]
    return element("div", {"class": "tabs"}, *parts, element("div", {"class": "panels"}, *shown))


def _quantized(facts: Facts, names: Sequence[str]) -> str:
    """Of a file that computes coarser than the trials did, that it lies elsewhere."""
    ships, latency = facts.manifest["ships"], facts.manifest["latency"]["ms"]
    if ships == "float" or "latency_ms" not in names:
        return ""
    return f" Trials were measured in floats; the {ships} file that ships takes {figure(latency)} ms."


def costs(facts: Facts) -> list[str]:
    """The costs that trials report, those of the objective first."""
    named = [metric.removeprefix("-") for metric in facts.best["objective"]["metrics"] if metric.startswith("-")]
    known = {name for row in facts.scored for name in row.metrics}
    return [name for name in dict.fromkeys((*named, *_COSTS)) if name in known and name != facts.measure][:4]


def front(facts: Facts, cost: str) -> list[Row]:
    """The trials that no other dominates, the cheapest first; of equals the first."""
    rows = {_score(facts, row, cost): row for row in reversed(facts.functions) if cost in row.metrics}
    found = [row for score, row in rows.items() if not any(other.dominates(score) for other in rows)]
    return sorted(found, key=lambda row: (row.metrics[cost], row.number))


def chart(facts: Facts, cost: str) -> Chart:
    """The measure against one cost."""
    best = front(facts, cost)
    numbers, points = {row.number for row in best}, []
    for row in facts.scored:
        if cost not in row.metrics:
            continue
        kind = "winner" if row.number == facts.shipped["trial"] else "best" if row.number in numbers else "trial"
        value, price = row.metrics[facts.measure], row.metrics[cost]
        words = f"trial {row.number}: {facts.measure} {figure(value)}, {cost} {figure(price)}{_range(row, cost)}"
        points.append(Point(price, value, words, row.number, kind, *_ends(row, cost)))
    points.sort(key=lambda point: ("trial", "best", "winner").index(point.kind))
    line = Line([(row.metrics[cost], row.metrics[facts.measure]) for row in best], "line front", stepped=True)
    summary = f"{facts.measure} against {cost} of {count(len(points), 'trial')}; {len(best)} on the front"
    return Chart(summary, label(cost), f"{facts.measure} on select", points, [line])


def members(facts: Facts) -> Table:
    """The front of the first cost as a table."""
    names = costs(facts)
    header = ("trial", facts.measure, *(label(name) for name in names))
    rows = []
    for row in front(facts, names[0]):
        values = [figure(row.metrics[name]) if name in row.metrics else "" for name in names]
        mark = " (ships)" if row.number == facts.shipped["trial"] else ""
        rows.append((f"{row.number}{mark}", figure(row.metrics[facts.measure]), *values))
    return Table(f"Pareto front by {facts.measure} and {label(names[0])}", header, rows, frozenset(header[1:]))


def _score(facts: Facts, row: Row, cost: str) -> Score:
    """A trial by both, each greater for better; of the cost, which is measured with noise, with its interval."""
    value, price, (low, high) = facts.sign * row.metrics[facts.measure], row.metrics[cost], _ends(row, cost)
    if low is None or high is None:
        return Score(0.0, (value, -price))
    return Score(0.0, (value, -price), ((value, value), (-high, -low)))


def _ends(row: Row, cost: str) -> tuple[float | None, float | None]:
    return row.metrics.get(f"{cost}_low"), row.metrics.get(f"{cost}_high")


def _range(row: Row, cost: str) -> str:
    low, high = _ends(row, cost)
    return "" if low is None or high is None else f" ({figure(low)} to {figure(high)})"
