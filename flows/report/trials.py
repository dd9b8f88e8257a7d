"""All trials as a table, to sort by any column and to filter by any word."""

from collections.abc import Sequence

from flows.report.facts import Facts, Row
from flows.report.html import Content, Markup, Section, element, join, note, paragraph, scrolling
from flows.report.words import count, figure, label

MOST = 2000
"""Of longer searches the best so many are listed, so that the page stays one that a browser can show."""
_FIRST = ("accuracy", "loss", "latency_ms", "parameters", "flops")


def section(facts: Facts) -> Section:
    """The tools, which need the script, and the table, which does not."""
    rows = listed(facts)
    metrics, choices = _metrics(facts), list(facts.telemetry["choices"])
    statuses = [element("option", {"value": name}, name) for name in dict.fromkeys(row.status for row in facts.trials)]
    tools = element(
        "div",
        {"class": "tools", "hidden": True, "id": "trial-tools"},
        element("label", None, "Filter ", element("input", {"type": "search", "id": "filter", "placeholder": "words, all must occur"})),
        element("label", None, "Status ", element("select", {"id": "status"}, element("option", {"value": ""}, "all"), *statuses)),
        element("label", None, element("input", {"type": "checkbox", "id": "decisions"}), " Show choices"),
        element("output", {"id": "shown", "for": "filter status"}, ""),
    )
    body: list[Content] = [tools, _table(facts, rows, metrics, choices)]
    if len(rows) < len(facts.trials):
        best = f"The best {len(rows):,} of {count(len(facts.trials), 'trial')} are listed; all are in results/search/trials.csv."
        body.insert(0, paragraph(best))
    body.append(note("A trial that took over the result of another built the same function. All columns are in results/search/trials.csv."))
    return Section("trials", "All trials", body)


def listed(facts: Facts) -> Sequence[Row]:
    """The rows to show: all, or the best of very many."""
    if len(facts.trials) <= MOST:
        return facts.trials
    known = sorted(facts.scored, key=lambda row: facts.sign * row.metrics[facts.measure], reverse=True)
    numbers = {row.number for row in known}
    rest = (row for row in facts.trials if row.number not in numbers)
    return sorted([*known, *rest][:MOST], key=lambda row: row.number)


def _metrics(facts: Facts) -> list[str]:
    """The metrics to show: those that decide, then what a person compares first; intervals are in the tips of their values."""
    known = {name for row in facts.trials for name in row.metrics}
    wanted = (facts.measure, *(metric.removeprefix("-") for metric in facts.best["objective"]["metrics"]), *_FIRST)
    return [name for name in dict.fromkeys(wanted) if name in known]


def _table(facts: Facts, rows: Sequence[Row], metrics: Sequence[str], choices: Sequence[str]) -> Markup:
    fixed = [("trial", "number"), ("status", ""), ("random", ""), *((label(name), "number") for name in metrics), ("same as", "number")]
    heads = [_head(name, kind) for name, kind in (*fixed, ("failure", ""))]
    heads += [_head(name, "choice") for name in choices]
    body = [_row(facts, row, metrics, choices) for row in rows]
    parts = [
        element("caption", None, f"{count(len(rows), 'trial')} of the search"),
        element("thead", None, element("tr", None, *heads)),
        element("tbody", None, *body),
    ]
    return scrolling("All trials", element("table", {"id": "trial-table", "class": "no-choices"}, *parts))


def _head(name: str, kind: str) -> Markup:
    return element("th", {"scope": "col", "class": kind or None}, name)


def _row(facts: Facts, row: Row, metrics: Sequence[str], choices: Sequence[str]) -> Markup:
    cells = [
        element("th", {"scope": "row", "class": "number"}, str(row.number)),
        element("td", None, row.status),
        element("td", None, "yes" if row.random else ""),
        *(_value(row, name) for name in metrics),
        element("td", {"class": "number"}, "" if row.reused is None else str(row.reused)),
        element("td", {"class": "words"}, row.error.splitlines()[0] if row.error else ""),
        *(element("td", {"class": "choice"}, row.architecture[name]) for name in choices),
    ]
    ships = row.number == facts.shipped["trial"]
    mark = {"id": f"trial-{row.number}", "class": "ships" if ships else None, "data-status": row.status}
    return element("tr", mark, join(cells))


def _value(row: Row, name: str) -> Markup:
    if name not in row.metrics:
        return element("td", {"class": "number"})
    low, high = row.metrics.get(f"{name}_low"), row.metrics.get(f"{name}_high")
    tip = None if low is None or high is None else f"{figure(low)} to {figure(high)}"
    return element("td", {"class": "number", "data-value": repr(row.metrics[name]), "title": tip}, figure(row.metrics[name]))
