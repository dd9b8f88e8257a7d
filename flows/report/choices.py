"""What the choices are worth: the effect of every option over all trials, and what is left when the winner is edited once."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from flows.report.charts import interval
from flows.report.effects import LEAST_OF_OPTION, LEAST_TRIALS, Effects
from flows.report.facts import Facts, Row
from flows.report.html import Content, Markup, Section, Table, element, note, paragraph
from flows.report.words import count, figure, verdict

LEAST_EXPLAINED = 0.1
"""Share of the variance of unseen trials; less is what chance gives a dozen trials."""
_SHOWN = 8
"""So many choices are shown at once; the others unfold."""


def section(facts: Facts) -> Section:
    """Every option with its interval, the choices that matter most first."""
    title, rows = "What the choices are worth", facts.functions
    found = facts.effects
    if found is None:
        why = (
            f"{count(len(rows), 'trial')} of different functions can be compared, and {LEAST_TRIALS} are the least"
            if len(rows) < LEAST_TRIALS
            else f"all {len(rows)} trials that can be compared score the same, or answer every choice the same"
        )
        return Section("choices", title, [paragraph(f"Too little to say what a choice is worth: {why}.")])
    table = effects_table(facts, found)
    how = note(
        f"Effect: {facts.measure} of trials with the option, less that of the mean trial, by an additive model of all choices "
        f"(Bayesian linear regression) on {count(found.trials, 'trial')}; those that failed, were turned down or repeat another are left "
        "out, and those that collapsed count as the worst of the rest. Intervals hold the effect with 95%; they are shown from "
        f"{LEAST_OF_OPTION} trials of an option on."
    )
    return Section("choices", title, [*map(paragraph, sentences(found)), *_in_two(table), how], [table])


def _in_two(table: Table) -> Iterator[Markup]:
    """The choices that matter most, and the others to unfold."""
    names = list(dict.fromkeys(str(row[0]) for row in table.rows))
    first = [row for row in table.rows if row[0] in names[:_SHOWN]]
    yield replace(table, rows=first).html()
    if len(first) < len(table.rows):
        rest = replace(table, caption="The other choices", rows=table.rows[len(first) :])
        yield element("details", None, element("summary", None, count(len(names) - _SHOWN, "more choice")), rest.html())


def sentences(found: Effects) -> Iterator[str]:
    """How far the table may be believed."""
    if found.explained < LEAST_EXPLAINED:
        yield (
            f"{count(found.trials, 'trial')} say little of what a choice is worth: a model of the choices predicts a trial that it has not "
            "seen hardly better than their mean does."
        )
    else:
        yield f"A model of the choices explains {found.explained:.0%} of the variance of trials that it has not seen."
    known = [effect for effect in found.effects if effect.low is not None]
    certain = [effect for effect in known if effect.certain]
    yield (
        f"{len(certain)} of {len(known)} intervals leave out zero. "
        "An effect is that of an option in the networks that this search looked at, and no promise for others."
    )


def effects_table(facts: Facts, found: Effects) -> Table:
    """One row per option; the choices in the order of how far apart their options are."""
    ranked = sorted(dict.fromkeys(effect.choice for effect in found.effects), key=found.spread, reverse=True)
    reach = max(abs(end) for effect in found.effects for end in (effect.value, effect.low or 0.0, effect.high or 0.0)) or 1.0
    rows: list[tuple[Content, ...]] = []
    for choice in ranked:
        for effect in (effect for effect in found.effects if effect.choice == choice):
            known = effect.low is not None and effect.high is not None
            ends = f"{effect.low:+.4f} to {effect.high:+.4f}" if known else "too few trials"
            chosen = "yes" if facts.shipped["decisions"].get(choice) == effect.option else ""
            drawn = interval(effect.value, effect.low, effect.high, reach)
            rows.append((choice, effect.option, chosen, str(effect.trials), f"{effect.value:+.4f}", ends, drawn))
    header = ("choice", "option", "ships", "trials", "effect", "95% interval", "chart")
    return Table(f"Effect of every option on {facts.measure}", header, rows, frozenset(("trials", "effect", "95% interval")))


def neighbours(facts: Facts) -> list[tuple[Row, str]]:
    """The trials that differ from what ships in one decision that matters, with the name of that decision.

    Decisions that its network does not ask for may differ: they change nothing in it.
    """
    decisions = facts.shipped["decisions"]
    found = []
    for row in facts.trials:
        edits = [name for name, option in decisions.items() if row.architecture.get(name) != option]
        if len(edits) == 1:
            found.append((row, edits[0]))
    order = list(decisions)
    return sorted(found, key=lambda pair: (order.index(pair[1]), pair[0].number))


def neighbours_section(facts: Facts) -> Section:
    """What is left of the winner's score when one of its choices is made otherwise."""
    title, decisions = "One edit from what ships", facts.shipped["decisions"]
    found = neighbours(facts)
    possible = sum(len(facts.telemetry["choices"][name]) - 1 for name in decisions)
    edits = {(name, row.architecture[name]) for row, name in found}
    winner = facts.shipped["metrics"]["select"].get(facts.measure)
    words = f"{len(edits) or 'None'} of the {possible} edits of one choice of trial {facts.shipped['trial']} were tried by the search."
    if not found or winner is None:
        return Section("neighbours", title, [paragraph(words if winner is not None else f"{words} What ships has no {facts.measure}.")])
    told = partial(_against, facts, float(winner))
    rows: list[tuple[Content, ...]] = [
        (name, f"{decisions[name]} to {row.architecture[name]}", _link(row.number), *told(row)) for row, name in found
    ]
    header = ("choice", "edit", "trial", facts.measure, "difference", "verdict")
    table = Table("Trials that differ in one choice", header, rows, frozenset(("trial", facts.measure, "difference")))
    noise = (
        f"A difference means something beyond two standard errors of two shares of {facts.dataset['counts']['select']} examples; the luck "
        "of one training comes on top. "
        if facts.noisy
        else ""
    )
    why = f"{noise}What ships was chosen on confirm, so a neighbour may be better on select."
    return Section("neighbours", title, [paragraph(words), table.html(), note(why)], [table])


def _link(number: int) -> Markup:
    return Markup(f'<a href="#trial-{number}">{number}</a>')


def _against(facts: Facts, winner: float, row: Row) -> tuple[str, str, str]:
    value = row.metrics.get(facts.measure)
    if value is None or not row.comparable:
        return "", "", f"{row.status}{': ' + row.kind if row.kind else ''}"
    difference = facts.better_by(winner, value)
    return figure(value), f"{difference.difference:+.4f}", verdict(difference, facts.noisy)
