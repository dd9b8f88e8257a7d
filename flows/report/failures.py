"""What did not work, by reason: trials that failed, and those that a constraint turned down before any training."""

from collections import Counter

from flows.report.facts import Facts, Row
from flows.report.html import Section, Table, paragraph
from flows.report.words import count

_WORDS = {
    "time": "took longer than its limit",
    "memory": "needed more memory than its limit",
    "parameters": "has more parameters than its limit",
    "flops": "needs more FLOPs than its limit",
    "diverged": "its loss diverged",
    "died": "ended its process",
    "constraint": "breaks a constraint",
    "error": "raised an error",
}


def section(facts: Facts) -> Section:
    """One row per status and reason, with an example in the words of its error."""
    bad = [row for row in facts.trials if row.status not in ("done", "running")]
    title = "Failures by reason"
    if not bad:
        return Section("failures", title, [paragraph(f"None of {count(len(facts.trials), 'trial')} failed or was turned down.")])
    groups = Counter((row.status, row.kind) for row in bad)
    rows = [
        (
            status,
            _WORDS.get(kind, kind or "no reason is recorded"),
            str(number),
            f"{number / len(facts.trials):.0%}",
            _example(bad, status, kind),
        )
        for (status, kind), number in sorted(groups.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
    table = Table("Trials that did not count", ("status", "reason", "trials", "share", "example"), rows, frozenset(("trials", "share")))
    words = f"{len(bad)} of {count(len(facts.trials), 'trial')} did not count."
    return Section("failures", title, [paragraph(words), table.html()], [table])


def _example(rows: list[Row], status: str, kind: str) -> str:
    first = next(row for row in rows if (row.status, row.kind) == (status, kind))
    lines = first.error.splitlines()
    text = lines[0] if lines else ""
    return f"trial {first.number}: {text[:160]}{'…' if len(text) > 160 else ''}" if text else f"trial {first.number}"
