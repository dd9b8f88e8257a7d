"""How the search went on, and whether it found more than random search would have."""

import statistics
from collections.abc import Iterator, Sequence

from flows.report import baseline
from flows.report.charts import Band, Chart, Line, Point, legend
from flows.report.facts import Facts, Row
from flows.report.html import Content, Section, note, paragraph
from flows.report.words import count, figure, share, verdict

LEAST_RANDOM = 3
"""From fewer random trials no curve is drawn."""
_NOTHING = 0.1
"""An interval of a probability that leaves out less than this at both ends tells nothing."""


def section(facts: Facts) -> Section:
    """Every comparable trial, the best so far, and the expected best of random search."""
    if not facts.scored:
        return Section("progress", "Search against random", [paragraph("No trial has a score that can be compared.")], wide=False)
    body: list[Content] = [_chart(facts).svg(), legend(_legend(facts)), *map(paragraph, sentences(facts))]
    body.append(
        note(
            "Expected best of n, where n trials could be compared: the mean over all ways to draw n of the random trials. Band: where the "
            "best of n draws falls in 90% of cases, if the random trials are all there is."
            if curve(facts)
            else "The best so far is of trials in the order of their numbers."
        )
    )
    return Section("progress", "Search against random", body, wide=False)


def curve(facts: Facts) -> list[tuple[int, float, float, float]]:
    """What random search finds with n trials, at the n-th that could be compared; empty with too few random trials.

    (trial, expected best, lowest and highest of the 90 % range)
    """
    values = [facts.sign * row.metrics[facts.measure] for row in _random(facts)]
    if len(values) < LEAST_RANDOM:
        return []
    found = []
    for row, drawn in zip(facts.scored, range(1, len(values) + 1), strict=False):
        middle, ends = baseline.expected_best(values, drawn), baseline.best_range(values, drawn)
        low, high = sorted(facts.sign * end for end in ends)
        found.append((row.number, facts.sign * middle, low, high))
    return found


def best_so_far(facts: Facts) -> list[tuple[int, float]]:
    """The best measure after each trial that can be compared: (trial, value)."""
    found: list[tuple[int, float]] = []
    best = -float("inf")
    for row in facts.scored:
        best = max(best, facts.sign * row.metrics[facts.measure])
        found.append((row.number, facts.sign * best))
    return found


def sentence(facts: Facts) -> str:
    """Whether the search found more than random search would have, in one sentence."""
    rows, random = facts.scored, _random(facts)
    if not random:
        return "no trial was drawn at random, so nothing here tells what random search would have found"
    if len(random) == len(rows):
        return "this search is random search"
    low, high = _chance_of_all(facts)
    if high < 0.5:
        said = "more than random search would have found"
    elif low > 0.5:
        said = "no more than random search would have found"
    else:
        said = "too few random trials to say"
    best, top = _best(facts, rows), _best(facts, random)
    found = facts.better_by(top.metrics[facts.measure], best.metrics[facts.measure])
    noise = f", noise ±{figure(found.noise)}: {verdict(found, facts.noisy)}" if facts.noisy else ""
    above = f"{found.difference:.4f} above the best of the {len(random)} random ones{noise}"
    return (
        f"{said}: the best of {count(len(rows), 'trial')} is {above if found.difference > 0 else f'one of the {len(random)} random ones'}; "
        f"{_probability(low, high)}"
    )


def _probability(low: float, high: float) -> str:
    """The interval of a probability, or that it is as good as none."""
    if low < _NOTHING and high > 1 - _NOTHING:
        return "the random ones do not tell how probable it is that random search of as many trials reaches it"
    return f"random search of as many trials reaches it with a probability of {share(low)} to {share(high)} (95% interval)"


def sentences(facts: Facts) -> Iterator[str]:
    """What was found, how it compares with random search, and what no search at all would have given."""
    if facts.scored:
        said = sentence(facts)
        yield from _found(facts)
        yield f"{said[0].upper()}{said[1:]}."
        yield from _typical(facts)


def besides(facts: Facts) -> Iterator[str]:
    """The sentences without the comparison with random search."""
    if facts.scored:
        yield from _found(facts)
        yield from _typical(facts)


def _found(facts: Facts) -> Iterator[str]:
    best, several = _best(facts, facts.scored), len(facts.best["objective"]["metrics"]) > 1
    alone = f" Here {facts.measure} alone is compared, one of several objectives." if several else ""
    yield (
        f"Best of {count(len(facts.scored), 'comparable trial')}: {facts.measure} {figure(best.metrics[facts.measure])} on select, "
        f"trial {best.number}.{alone}"
    )


def _typical(facts: Facts) -> Iterator[str]:
    """What no search at all would have given: an architecture drawn at random (Yang, Esperanca and Carlucci 2020, section 3)."""
    values = [row.metrics[facts.measure] for row in _random(facts)]
    if len(values) < LEAST_RANDOM:
        return
    mean, best = statistics.mean(values), _best(facts, facts.scored).metrics[facts.measure]
    beaten = sum(facts.sign * value < facts.sign * best for value in values)
    yield (
        f"One architecture drawn at random, without any search, has {facts.measure} {figure(mean)} on average of {len(values)} "
        f"(standard deviation {figure(statistics.stdev(values))}); the best found is {figure(facts.sign * (best - mean))} better, "
        f"and better than {'all' if beaten == len(values) else beaten} of them."
    )


def _best(facts: Facts, rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: facts.sign * row.metrics[facts.measure])


def _chance_of_all(facts: Facts) -> tuple[float, float]:
    """Bounds of the probability that a random search of as many trials reaches the best of all."""
    best = max(facts.sign * row.metrics[facts.measure] for row in facts.scored)
    random = _random(facts)
    reached = sum(facts.sign * row.metrics[facts.measure] >= best for row in random)
    return baseline.within(baseline.chance(reached, len(random)), len(facts.scored))


def _random(facts: Facts) -> list[Row]:
    return [row for row in facts.scored if row.random]


def _chart(facts: Facts) -> Chart:
    measure, random = facts.measure, curve(facts)
    points = []
    for row in facts.scored:
        kind = "winner" if row.number == facts.shipped["trial"] else "random" if row.random else "trial"
        words = f"trial {row.number}{', random' if row.random else ''}: {measure} {figure(row.metrics[measure])}"
        points.append(Point(row.number, row.metrics[measure], words, row.number, kind))
    lines = [Line(best_so_far(facts), "line best", stepped=True)]
    if random:
        lines.append(Line([(number, middle) for number, middle, _, _ in random], "line random"))
    best = best_so_far(facts)[-1][1]
    summary = f"{measure} on select of {len(points)} trials in their order, and the best so far, in the end {figure(best)}"
    bands = [Band([(number, low, high) for number, _, low, high in random], "band")] if random else []
    return Chart(summary, "trial", f"{measure} on select", points, lines, bands, whole=True)


def _legend(facts: Facts) -> Iterator[tuple[str, str]]:
    yield "line best", "best so far"
    if curve(facts):
        yield from (("line random", "random search, expected best"), ("band", "its 90% range"))
    yield "trial", "trial"
    if any(row.random for row in facts.scored):
        yield "random", "trial drawn at random"
    if any(row.number == facts.shipped["trial"] for row in facts.scored):
        yield "winner", "what ships"
