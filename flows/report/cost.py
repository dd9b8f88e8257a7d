"""What the result cost: the time of every stage, and what was computed in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from flows.report.facts import STAGES, Facts
from flows.report.html import Markup, Section, Table, Value, element, note
from flows.report.words import count, seconds


def section(facts: Facts) -> Section:
    """One row per stage, with a bar for its share of the time."""
    table = Table("Time by stage", ("stage", "time", "share", "what was done"), list(rows(facts)), frozenset(("time", "share")))
    how = note(
        "Time: of the process that published the results, on the wall; one that was killed before it is not in it. Seconds in evaluations "
        "are those of all trials, whichever process made them, added up over the workers."
    )
    return Section("cost", "Time and cost", [_bar(facts), table.html(), how], [table])


def rows(facts: Facts) -> Iterator[tuple[str, str, str, str]]:
    """Every stage, its time, its share, and what it did."""
    total = sum(filter(None, (_seconds(facts, stage) for stage in STAGES)))
    for stage in STAGES:
        spent = _seconds(facts, stage)
        share = "" if spent is None or total == 0 else f"{spent / total:.0%}"
        yield stage, "not recorded" if spent is None else seconds(spent), share, _done(facts, stage)


def _seconds(facts: Facts, stage: str) -> float | None:
    found = facts.lineages[stage].get("seconds")
    return None if found is None else float(found)


def _done(facts: Facts, stage: str) -> str:
    if stage == "prepare":
        examples = sum(facts.dataset["counts"].values())
        return f"{count(examples, 'example')} of {count(len(facts.dataset['classes']), 'class', 'classes')}"
    if stage == "search":
        return _searched(facts)
    if stage == "train":
        epochs = max((int(row["epoch"]) for row in facts.curve), default=0)  # not every epoch is evaluated
        return f"{count(len(facts.details['seeds']), 'seed')} of {count(epochs, 'epoch')}"
    variants = facts.manifest.get("variants", {})
    return f"{count(len(variants), 'file')} made, checked, scored and timed: {', '.join(variants)}"


def _searched(facts: Facts) -> str:
    statuses = [row.status for row in facts.trials]
    reused = sum(row.reused is not None for row in facts.trials)
    kinds = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)]
    words = f"{count(len(statuses), 'trial')}: {', '.join(kinds)}{f'; {reused} took over the result of another' if reused else ''}"
    spent: Mapping[str, Any] | None = facts.lineages["search"].get("evaluations")
    if spent is None or not spent["trials"]:
        return words
    mean = spent["seconds"] / spent["trials"]
    return f"{words}; {seconds(spent['seconds'])} in evaluations, {seconds(mean)} each in the mean, the longest {seconds(spent['longest'])}"


def _bar(facts: Facts) -> Markup:
    """The stages beside each other, each as wide as its share; the table says the same."""
    known = [(stage, spent) for stage in STAGES if (spent := _seconds(facts, stage))]
    total, at, parts = sum(spent for _, spent in known) or 1.0, 0.0, []
    for stage, spent in known:
        width = 480 * spent / total
        shape: dict[str, Value] = {"x": at, "y": 0, "width": max(width - 1, 0.5), "height": 18, "class": f"stage-{STAGES.index(stage)}"}
        parts.append(element("rect", shape, element("title", None, f"{stage}: {seconds(spent)}")))
        if width > 60:
            parts.append(element("text", {"x": at + 6, "y": 13, "class": "on-stage"}, stage))
        at += width
    return element("svg", {"viewBox": "0 0 480 18", "class": "share", "aria-hidden": "true"}, *parts)
