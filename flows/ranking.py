"""`nasflow rank --measured`: the candidates of the last search in the order that other devices give them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flows import devices, packed
from flows.devices import Device, Setting
from flows.elsewhere import Elsewhere, OnDevice
from flows.packed import Packed
from nas.objective import Objective
from nas.rerank import LATENCY, Latency, Ranked, rerank


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """A device, the setting whose times count, and its latencies by trial."""

    device: Device
    setting: Setting
    latencies: Mapping[int, Latency]


@final
@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates that every device measured, the best first, and the others of the search, in its order.

    here: the latency that the search measured, by trial, where it did. files: the packed files, by trial.
    """

    search: str
    metric: str
    objective: Objective
    devices: Sequence[Measured]
    ranked: Sequence[Ranked]
    unmeasured: Sequence[int]
    here: Mapping[int, float]
    files: Mapping[int, Packed]

    @property
    def winner(self) -> Ranked | None:
        """The best that meets all constraints on every device; None when none does."""
        return self.ranked[0] if self.ranked and not self.ranked[0].broken else None

    def elsewhere(self, trial: int) -> Elsewhere:
        """What the export stage has to know of the choice of a trial."""
        return Elsewhere(search=self.search, trial=trial, graph=self.files[trial].graph, devices=[_on(one, trial) for one in self.devices])


def rank(root: Path, paths: Sequence[Path], asked: Setting | None, target: Setting, without: Iterable[int]) -> Ranking:
    """Read the files of devices, and rank the candidates of the last search by them.

    asked: whose times count, None for what `devices.setting_of` takes. without: trials that are left out.

    Raises ValueError where a file is no such file or about a model that was not packed, when no candidate was measured on every device, or
    `without` names no candidate; RecordError without a search, FileNotFoundError without a file.
    """
    best, offered = packed.search_of(root)
    if unknown := sorted(set(without) - {one["trial"] for one in offered}):
        numbers = ", ".join(str(one["trial"]) for one in offered)
        raise ValueError(f"--without {unknown[0]} is no candidate of the search: its candidates are {numbers}")
    kept = [one for one in offered if one["trial"] not in set(without)]
    files = _files(packed.known(root, best["search"]), offered)
    found = [_measured(device, files, asked, target) for device in map(devices.read, paths)]
    objective = Objective.model_validate(best["objective"])
    wanted = {one["trial"] for one in kept}
    latencies = [{trial: latency for trial, latency in one.latencies.items() if trial in wanted} for one in found]
    ranked = rerank({one["trial"]: one["metrics"]["confirm"] for one in offered}, latencies, objective)
    if not ranked:
        raise ValueError("no candidate was measured on every device: run the whole archive's benchmark.py on each, with the same settings")
    present = {one.trial for one in ranked}
    unmeasured = [one["trial"] for one in kept if one["trial"] not in present]
    here = {one["trial"]: one["metrics"]["confirm"][LATENCY] for one in kept if LATENCY in one["metrics"]["confirm"]}
    return Ranking(best["search"], best["metric"], objective, found, ranked, unmeasured, here, {one.trial: one for one in files.values()})


def _files(known: Mapping[str, Packed], offered: Sequence[Mapping[str, Any]]) -> dict[str, Packed]:
    """The packed files that are of a present candidate, by SHA-256."""
    candidates = {one["trial"]: one["canonical"] for one in offered}
    return {digest: one for digest, one in known.items() if candidates.get(one.trial) == one.canonical}


def _measured(device: Device, files: Mapping[str, Packed], asked: Setting | None, target: Setting) -> Measured:
    for digest in device.timings:
        if digest not in files:
            raise ValueError(
                f"{device.name} has times of a file with SHA-256 {digest[:16]}, which is no candidate of the last search as it was packed "
                "here: pack the candidates with `nasflow rank --pack candidates.zip` and time that archive, unaltered"
            )
    setting = devices.setting_of(device, asked, target)
    return Measured(device, setting, {files[digest].trial: one for digest, one in devices.latencies(device, setting).items()})


def _on(measured: Measured, trial: int) -> OnDevice:
    latency, setting = measured.latencies[trial], measured.setting
    return OnDevice(
        device=measured.device.processor,
        provider=measured.device.provider,
        batch_size=setting.batch_size,
        threads=setting.threads,
        latency_ms=latency.middle,
        low=latency.low,
        high=latency.high,
    )


def header(ranking: Ranking) -> list[str]:
    """The columns of the table."""
    return ["rank", "before", "trial", ranking.metric, "here", *(one.device.name for one in ranking.devices), "front", "breaks"]


def rows(ranking: Ranking) -> list[list[str]]:
    """The table: places, what the candidate scores on `confirm`, and its latencies in ms, here and on every device."""
    return [
        [
            str(place),
            str(one.before),
            str(one.trial),
            f"{one.metrics[ranking.metric]:.4f}",
            f"{ranking.here[one.trial]:.4g} ms" if one.trial in ranking.here else "",
            *(f"{device.latencies[one.trial].middle:.4g} ms" for device in ranking.devices),
            "yes" if one.front else "",
            "; ".join(one.broken),
        ]
        for place, one in enumerate(ranking.ranked, 1)
    ]


def notes(ranking: Ranking) -> list[str]:
    """What a person should know beside the table, a sentence each."""
    found = [f"{one.device.name}: {one.device.processor}, {one.device.provider}, {one.setting}" for one in ranking.devices]
    names = ranking.objective.names
    if LATENCY not in [name.removeprefix("-") for name in names]:
        found.append("the objective names no latency_ms, so that no device changes the order")
    if others := sorted({name for name in names if name.endswith("_latency_ms")}):
        found.append(f"{', '.join(others)} is the one of this machine: only files in floats were packed")
    if ranking.unmeasured:
        found.append(f"not measured on every device, so not ranked: trial {', '.join(map(str, ranking.unmeasured))}")
    return found


def record(ranking: Ranking) -> dict[str, Any]:
    """All of it, as JSON values."""
    return {
        "search": ranking.search,
        "objective": ranking.objective.model_dump(mode="json"),
        "winner": ranking.winner.trial if ranking.winner is not None else None,
        "devices": [
            {"file": one.device.name, "processor": one.device.processor, "provider": one.device.provider, **_plain(one.setting)}
            for one in ranking.devices
        ],
        "ranking": [_row(ranking, place, one) for place, one in enumerate(ranking.ranked, 1)],
        "unmeasured": list(ranking.unmeasured),
    }


def _plain(setting: Setting) -> dict[str, int]:
    return {"batch_size": setting.batch_size, "threads": setting.threads}


def _row(ranking: Ranking, place: int, one: Ranked) -> dict[str, Any]:
    return {
        "rank": place,
        "before": one.before,
        "trial": one.trial,
        "front": one.front,
        "broken": list(one.broken),
        "metrics": dict(one.metrics),
        "here": ranking.here.get(one.trial),
        "devices": [device.latencies[one.trial].middle for device in ranking.devices],
    }
