"""Candidates are judged as the files that they would ship as: size, memory and latency in onnxruntime, and metrics of the file itself.

What the structure decides is measured before any training, once for each canonical architecture of a space on a machine, and kept on
disk; so what breaks a constraint costs no training, and what was measured before costs nothing.
"""

import errno
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import numpy as np
import torch
from pydantic import PrivateAttr
from torch import nn

from export.figures import EVERY
from export.quantize import quantize
from export.quiet import NotQuietError, lock_folder
from export.scoring import answers
from export.structures import QUIET_SECONDS, TIMINGS, Costing, Subject, figures, graph_of
from export.to_onnx import to_onnx
from nas import atomic
from nas.architecture import Architecture
from nas.evaluators.base import BLAMELESS, Bench, Blameless, Evaluator, MachineError, failure
from nas.evaluators.wrapper import Wrapper
from nas.file_metrics import QUALITIES, added
from nas.processes import DiedError, LateError, Slot, Work
from nas.trial import LimitError, Proposal, Report, Trial

_PATIENCE = 1.25 * TIMINGS * QUIET_SECONDS
"""Seconds for one structure: exporting and timing take about one, but every timing may wait for the machine, and must say so itself."""
_EXAMPLES = 64
"""Images of `fit` that calibrate the int8 variant of a candidate."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@final
@dataclass(frozen=True)
class Plan:
    """How candidates are measured. key: names what besides the architecture determines a file: space, task, data, code and versions.

    metadata: what a file of this search says of itself besides its architecture, as long as it will be in the end.
    """

    costing: Costing
    key: str
    metadata: Mapping[str, str]


@final
class Measured(Wrapper):
    """Adds metrics of the exported file to those of another evaluator: those that are `wanted`, and no others."""

    _wanted: frozenset[str] = PrivateAttr()
    _plan: Plan = PrivateAttr()
    _slot: Slot | None = PrivateAttr(None)

    @classmethod
    def around(cls, evaluator: Evaluator, bench: Bench, wanted: frozenset[str], plan: Plan) -> Self:
        """Return the evaluator, bound to `bench`, that measures `wanted`, names of `nas.file_metrics.added`."""
        made = cls()
        made._evaluator, made._bench, made._wanted, made._plan = evaluator, bench, wanted, plan
        return made

    @contextmanager
    def measuring(self) -> Iterator[Self]:
        """Measure in a process of its own meanwhile, so that a candidate that ends it ends nothing else."""
        self._slot = Slot(_Measuring(self._bench, self._wanted, self._plan))
        try:
            yield self
        finally:
            self._slot.end()
            self._slot = None

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        """The evaluator's metrics, and all that can be measured."""
        return tuple(dict.fromkeys((*super().metric_names(task), *added(task))))

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        """What the evaluator knows without training, and the figures of the structure.

        Raises LimitError where the architecture cannot be shipped, MachineError when the machine did not become quiet.
        """
        return {**super().inspect(proposal), **self._structure(proposal.architecture)}

    def evaluate(self, trial: Trial) -> Report:
        """Let the evaluator evaluate, then score the file. Raises what the evaluator, the exporter and onnxruntime raise."""
        report = super().evaluate(trial)
        scored = self._scored(trial, "select") if report.error is None else {}
        return Report({**report.metrics, **scored}, report.seconds, report.error, report.gradient, report.reused, report.kind)

    def reassess(self, trial: Trial, split: str) -> Mapping[str, float]:
        """What the evaluator says, and the file, on another split."""
        return {**super().reassess(trial, split), **self._scored(trial, split)}

    def graph(self, architecture: Architecture) -> str | None:
        """The hash of the graph that was measured for an architecture; None where none was."""
        return graph_of(_key(self._bench, self._plan, architecture), self._plan.costing)

    def _structure(self, architecture: Architecture) -> Mapping[str, float]:
        if self._wanted.isdisjoint(EVERY):
            return {}
        if self._slot is None:
            found: Mapping[str, float] | Report | Blameless = _answer(self._bench, self._wanted, self._plan, architecture)
        else:
            try:
                found = self._slot.run(architecture, _PATIENCE)
            except LateError as error:
                raise LimitError(f"it was not measured as a file: {error}", "time") from error
            except DiedError as error:
                raise LimitError(f"it was not measured as a file: {error}", "died") from error
        if isinstance(found, BLAMELESS):
            raise found
        if isinstance(found, Report):
            raise LimitError(f"it cannot be shipped: {found.error}", "export")
        return found

    def _scored(self, trial: Trial, split: str) -> dict[str, float]:
        """The task's metrics of the files of a finished trial on a split, those that are wanted."""
        task, dataset = self._bench.task, self._bench.dataset
        variants = [variant for variant in QUALITIES if any(f"{variant}{name}" in self._wanted for name in task.metric_names)]
        if not variants:
            return {}
        found: dict[str, float] = {}
        targets = torch.from_numpy(np.array(dataset.targets(split)))
        with tempfile.TemporaryDirectory(prefix="nasflow-file-") as place:
            path = Path(place) / "file_model.onnx"
            _export(self._bench, self._plan, trial.architecture, task.deployable(self.network(trial)).eval(), path)
            for variant in variants:
                if variant == "int8_":
                    quantize(path, path.with_name("int8_model.onnx"), [dataset.as_bytes("fit")[:_EXAMPLES]])
                logits = answers(path.with_name(f"{variant}model.onnx"), dataset.as_bytes(split), self._plan.costing.target)
                metrics = task.metrics(torch.from_numpy(logits), targets)
                found |= {f"{variant}{name}": value for name, value in metrics.items() if f"{variant}{name}" in self._wanted}
        return found


@final
class _Measuring(Work):
    """What the measuring process does."""

    def __init__(self, bench: Bench, wanted: frozenset[str], plan: Plan) -> None:
        self._bench, self._wanted, self._plan = bench, wanted, plan

    def begin(self) -> None:
        """Nothing is needed before the first structure."""

    def answer(self, question: Architecture) -> Mapping[str, float] | Report | Blameless:
        return _answer(self._bench, self._wanted, self._plan, question)


def _answer(bench: Bench, wanted: frozenset[str], plan: Plan, architecture: Architecture) -> Mapping[str, float] | Report | Blameless:
    """The figures of a structure; a report with the reason where it has none; an error that no candidate is to blame for."""
    task = bench.task

    def make() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return task.deployable(bench.space.build(architecture, task)).eval()

    metadata = metadata_of(plan, architecture, bench)
    examples = bench.dataset.as_bytes("fit")[:_EXAMPLES]
    try:
        subject = Subject(make, task.example(2), task.output_names, metadata, examples)
        return figures(_key(bench, plan, architecture), subject, plan.costing, wanted)
    except BLAMELESS as error:
        return error
    except NotQuietError as error:
        return MachineError(str(error))
    except OSError as error:
        return _of_machine(error) or _of_disk(error, plan.costing.folder) or failure(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - building and exporting a candidate may raise anything
        return failure(error)


def _of_machine(error: OSError) -> MachineError | None:
    """What to say where nobody can wait for the machine to be quiet."""
    if Path(str(error.filename or "")).parent != lock_folder():
        return None
    return MachineError(f"the machine cannot be made quiet, because {error.filename} cannot be opened ({error.strerror}): remove it")


def _of_disk(error: OSError, folder: Path) -> atomic.DiskError | None:
    """What to say where the disk is to blame and no candidate."""
    if error.errno not in _FULL and not Path(str(error.filename or "")).is_relative_to(folder):
        return None
    try:
        with atomic.explained(folder, "used", "what was measured before is kept"):
            raise error
    except atomic.DiskError as told:
        return told


def metadata_of(plan: Plan, architecture: Mapping[str, str], bench: Bench) -> dict[str, str]:
    """What a candidate's file says of itself."""
    own = {"architecture": json.dumps(dict(architecture), sort_keys=True), "canonical": bench.space.canonical(architecture, bench.task)}
    return {**plan.metadata, **own}


def _export(bench: Bench, plan: Plan, architecture: Architecture, module: nn.Module, path: Path) -> None:
    task, metadata = bench.task, metadata_of(plan, architecture, bench)
    to_onnx(module, task.example(2), path, outputs=task.output_names, metadata=metadata, exporter=plan.costing.exporter)


def _key(bench: Bench, plan: Plan, architecture: Architecture) -> str:
    return json.dumps([plan.key, bench.space.canonical(architecture, bench.task)])
