"""The trial that an architecture is of, and its ancestors: what each was made from, and which choices changed."""

import csv
from collections.abc import Mapping, Sequence
from typing import Any, final

from flows.records import PULL, RESTORE
from flows.why.chain import Ancestor, Link, counted
from flows.why.evidence import Evidence, untold
from nas.ancestry import ancestors, changed, named

Row = Mapping[str, str]
_TABLE = "results/search/trials.csv"


@final
class Trials:
    """The rows of trials.csv by number. Raises ValueError where there is no such table, or it is damaged."""

    def __init__(self, evidence: Evidence) -> None:
        try:
            with (evidence.root / _TABLE).open(newline="") as file:
                self.rows: dict[int, Row] = {int(row["number"]): row for row in csv.DictReader(file)}
            self.sources = {number: _sources(row) for number, row in self.rows.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{_TABLE} is missing or damaged: {PULL}") from error


def descended(evidence: Evidence) -> tuple[Link, Link, list[Ancestor]]:
    """The link of the trial, the link of its ancestors, and these, nearest first."""
    winner = evidence.record("train/architecture.json")
    if not winner:
        titles = ("trial", "the trial is not known"), ("ancestors", "the ancestors are not known")
        first, second = (Link(name, title, (), (), untold("train/architecture.json")) for name, title in titles)
        return first, second, []
    try:
        trials = Trials(evidence)
    except ValueError as error:
        titles = ("trial", f"trial {winner['trial']}"), ("ancestors", "the ancestors are not known")
        first, second = (Link(name, title, (), [str(error)]) for name, title in titles)
        return first, second, []
    number = winner["trial"]
    found = ancestors(trials.sources, number)
    family = [_ancestor(trials, one, evidence.record("search/best.json").get("metric", "score")) for one in found]
    return _trial(trials, winner, evidence), _family(trials, found, winner, family), family


def _trial(trials: Trials, winner: Mapping[str, Any], evidence: Evidence) -> Link:
    number, best = winner["trial"], evidence.record("search/best.json")
    row = trials.rows.get(number)
    if row is None:
        return Link("trial", f"trial {number}", (), [f"{_TABLE} has no trial {number}, which was trained: {RESTORE}"])
    broken = []
    different = [name for name, option in winner["architecture"].items() if row.get(name) != option]
    if different:
        broken.append(
            f"{_TABLE} has another {different[0]} for trial {number} than the architecture that was trained: one was altered; {RESTORE}"
        )
    if row["status"] != "done":
        broken.append(f"trial {number} has the status {row['status']!r} in {_TABLE}, so it could not win: the table was altered; {RESTORE}")
    metric = best.get("metric", "")
    if best.get("trial") == number and row.get(metric) and best.get("score") is not None and float(row[metric]) != best["score"]:
        broken.append(
            f"{_TABLE} gives trial {number} {metric} {row[metric]}, best.json gives it {best['score']}: one was altered; {RESTORE}"
        )
    facts = [("status", row["status"]), *((name, f"{float(row[name]):.4f} on select") for name in [metric] if row.get(metric))]
    if best.get("trial") == number and best.get("confirm") is not None:
        facts.append(("confirm", f"{metric} {best['confirm']:.4f}"))
    if row.get("reused"):
        facts.append(("reused", f"builds the same function as trial {row['reused']}, whose result it took over"))
    facts += [("of", counted(len(trials.rows), "trial"))]
    return Link("trial", f"trial {number} of the search", facts, broken)


def _family(trials: Trials, found: Mapping[int, Sequence[int]], winner: Mapping[str, Any], family: Sequence[Ancestor]) -> Link:
    broken = [
        f"trial {number} was made from trial {source}, which is not in {_TABLE}: {RESTORE}"
        for number, named_there in found.items()
        for source in named_there
        if source not in trials.rows
    ]
    broken += [
        f"trial {number} claims to be made from trial {source}, which came after it: {_TABLE} was altered; {RESTORE}"
        for number, named_there in found.items()
        for source in named_there
        if source >= number
    ]
    recorded = {int(number): tuple(sources) for number, sources in winner.get("ancestors", {}).items()}
    if recorded and recorded != {number: tuple(sources) for number, sources in found.items()}:
        broken.append(
            f"{_TABLE} and results/train/architecture.json name different ancestors of trial {winner['trial']}: one was altered; {RESTORE}"
        )
    facts = [(f"trial {one.trial}", f"{one.made}; {one.score}{_words(one)}") for one in family]
    first = family[-1] if family else None
    title = (
        f"descends over {counted(len(family) - 1, 'earlier trial')}, back to trial {first.trial}"
        if first and len(family) > 1
        else "a beginning: made from no other trial"
    )
    return Link("ancestors", title, facts, broken)


def _ancestor(trials: Trials, number: int, metric: str) -> Ancestor:
    row, sources = trials.rows[number], trials.sources[number]
    known = [_choices(trials.rows[source]) for source in sources if source in trials.rows]
    score = f"{metric} {float(row[metric]):.4f}" if row.get(metric) else row["status"]
    return Ancestor(number, sources, _made(row, sources), score, changed(_choices(row), known))


def _made(row: Row, sources: Sequence[int]) -> str:
    """How a trial came about, in words."""
    parent, origin = _number(row.get("parent")), _numbers(row.get("origin"))
    more = f", continues the weights of trial {parent}" if parent is not None else ""
    if row["steps"] == "0":
        more += ", looked at in the end"
    if len(origin) == 1:
        return f"made from trial {origin[0]}{more}"
    if origin:
        return f"made from trials {', '.join(map(str, origin[:-1]))} and {origin[-1]}{more}"
    return more.removeprefix(", ") or "a beginning"


def _choices(row: Row) -> Row:
    """The columns behind the last that every search has."""
    names = list(row)
    return {name: row[name] for name in names[names.index("error") + 1 :]}


def _words(one: Ancestor) -> str:
    changes = ", ".join(f"{name} {before} -> {after}" for name, (before, after) in one.changed.items())
    return f"; {changes}" if changes else ""


def _sources(row: Row) -> tuple[int, ...]:
    return named(_number(row.get("parent")), _numbers(row.get("origin")))


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def _numbers(text: str | None) -> list[int]:
    return [int(part) for part in (text or "").split()]
