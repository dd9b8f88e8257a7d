"""Where an architecture comes from: the trials that it was made from, those that they were made from, and so on."""

from collections.abc import Iterable, Mapping, Sequence

from nas.trial import Trial

Sources = Mapping[int, Sequence[int]]
"""By the number of a trial, the trials that it names: whose weights it continues, then what its architecture was made from."""


def sources(trials: Iterable[Trial]) -> dict[int, tuple[int, ...]]:
    """What every trial names, each number once."""
    return {trial.number: named(trial.proposal.parent, trial.proposal.origin) for trial in trials}


def named(parent: int | None, origin: Iterable[int]) -> tuple[int, ...]:
    """The numbers that a proposal names, each once; the parent first."""
    return tuple(dict.fromkeys([*(() if parent is None else (parent,)), *origin]))


def ancestors(known: Sources, number: int) -> dict[int, tuple[int, ...]]:
    """Return the trial of this number and all its ancestors, nearest first, each with what it names; those not `known` are left out."""
    found: dict[int, tuple[int, ...]] = {}
    level = [number]
    while level:
        for one in level:
            if one in known:
                found[one] = tuple(known[one])
        level = [source for source in dict.fromkeys(source for one in level for source in known.get(one, ())) if source not in found]
    return found


def changed(own: Mapping[str, str], sources: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, str]]:
    """The choices that none of the architectures that one was made from has so: what each of these has, and what it has itself."""
    before = {name: dict.fromkeys(source[name] for source in sources) for name in own} if sources else {}
    return {name: (" or ".join(known), own[name]) for name, known in before.items() if own[name] not in known}
