"""Zero-cost proxies: an architecture is judged by what one minibatch says about its network before any training.

Abdelfattah, Mehrotra, Dudziak and Lane 2021, Zero-cost proxies for lightweight NAS; the measures are in nas.training.proxies.
Their best is not the best architecture: use them to choose what to train first, or as features of a predictor.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, final

import numpy as np
from annotated_types import MinLen
from pydantic import AfterValidator, Field, PrivateAttr

from nas import atomic
from nas.architecture import Architecture
from nas.evaluators.base import Evaluator
from nas.training.proxy_names import Name, ProxyError
from nas.trial import Proposal, Report, Trial

if TYPE_CHECKING:  # settings are read without PyTorch, so what measures is imported where it is used
    from torch import nn

    from nas.training.loop import Examples

_MINIBATCH, _REFERENCE, _WEIGHTS = 1, 2, 3  # what a stream of random numbers is for
_STREAM = 4  # keeps these streams from those that a search draws from (seed, trial)


def _each_once(measures: tuple[Name, ...]) -> tuple[Name, ...]:
    if len(set(measures)) != len(measures):
        raise ValueError(f"{list(measures)} holds a measure twice: name each once")
    return measures


@final
class Proxy(Evaluator):
    """Scores architectures without training them; nothing it reports is an accuracy.

    `rank_sum` combines the measures: the mean of the shares of a fixed random sample of architectures that a candidate beats
    by each. Weights, minibatch and sample derive from the run's seed, so an architecture has one score, whenever and wherever
    it is asked for. Proposed steps and parents change nothing.
    """

    measures: Annotated[tuple[Name, ...], MinLen(1), AfterValidator(_each_once)] = ("naswot", "logsynflow")
    """What to measure; `rank_sum` combines all of them, each with the same weight."""
    batch_size: int = Field(32, ge=2)
    """Examples of `fit` in the minibatch, all of them different."""
    reference: int = Field(100, ge=2)
    """Random architectures that `rank_sum` compares with; each costs as much as a trial, once per run."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where to measure: `cpu`, `cuda`, `cuda:1`, or `auto`."""

    _examples: "Examples | None" = PrivateAttr(None)
    _values: dict[Architecture, dict[str, float]] = PrivateAttr(default_factory=dict)
    _standings: dict[str, list[float | None]] = PrivateAttr(default_factory=dict)

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        """The measures, what the structure costs, and `rank_sum`; none of the task's metrics, since nothing is trained."""
        return tuple(dict.fromkeys((*self.measures, "parameters", "flops", "rank_sum")))

    def repair(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """As the space says."""
        return self._bench.space.repair(architecture, rng)

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        """Parameters and FLOPs, from a network that is built without memory."""
        values = self._values.setdefault(proposal.architecture, {})
        if "flops" not in values:
            import torch

            from nas.training.cost import cost

            with torch.device("meta"):
                network = self._bench.space.build(proposal.architecture, self._bench.task)
            values |= cost(network, self._bench.task)
        return {name: values[name] for name in ("parameters", "flops")}

    def identity(self, proposal: Proposal) -> str | None:
        """Canonical form; None for a mixture."""
        return None if proposal.mixture is not None else self.canonical(proposal.architecture)

    def evaluate(self, trial: Trial) -> Report:
        """Report the measures of an architecture, its parameters and FLOPs, and `rank_sum`.

        Raises ProxyError when a measure says nothing about this network, ValueError when it says nothing about the whole
        reference, or when a mixture is proposed.
        """
        if trial.proposal.mixture is not None:
            raise ValueError("a mixture was proposed, but 'proxy' scores single architectures: use an evaluator that shares weights")
        # Data and reference serve every candidate, so none is charged for them.
        self._minibatch()
        reference = self._load_reference()
        start = perf_counter()
        values = {**self._measured(trial.architecture), **self.inspect(trial.proposal)}
        standings = [standing(values[name], reference[name]) for name in self.measures]
        return Report({**values, "rank_sum": math.fsum(standings) / len(standings)}, perf_counter() - start)

    def features(self, architecture: Mapping[str, str]) -> dict[str, float]:
        """Return the measures, and the logarithms of one plus parameters and FLOPs, of an architecture.

        A measure that says nothing about this network is 0: strategies ask for features of whatever they consider, and one
        architecture must not end a search.
        """
        asked = Architecture(architecture)
        size = self.inspect(Proposal(asked))
        try:
            measured = self._measured(asked)
        except ProxyError:
            measured = {name: self._values[asked].get(name, 0.0) for name in self.measures}
        return {**measured, **{f"log_{name}": math.log1p(value) for name, value in size.items()}}

    def _measured(self, architecture: Architecture) -> dict[str, float]:
        """The measures of an architecture.

        They are kept by architecture and not by canonical form: two of one form give their weights out in another order, so
        whichever came first would decide the score of both.
        """
        known = self._values.setdefault(architecture, {})
        missing = [name for name in self.measures if name not in known]
        if missing:
            network = self._network(architecture)
            silent: ProxyError | None = None
            for name in missing:
                try:
                    known[name] = self._measure(network, name)
                except ProxyError as error:
                    silent = silent or error
            if silent is not None:
                raise silent
        return {name: known[name] for name in self.measures}

    def _network(self, architecture: Architecture) -> "nn.Module":
        """A network at its first weights, which depend on the run's seed and the canonical form alone."""
        import torch

        from nas.training.loop import pick_device, stream_seed

        form = hashlib.sha256(self.canonical(architecture).encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(self._bench.seed, _WEIGHTS, _STREAM, int.from_bytes(form[:8], "big")))
            network = self._bench.space.build(architecture, self._bench.task)
        moved: nn.Module = network.to(pick_device(self.device), memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved

    def _measure(self, network: "nn.Module", name: Name) -> float:
        import torch

        from nas.training.proxies import MEASURES

        task, examples = self._bench.task, self._minibatch()
        with torch.no_grad():
            inputs = task.prepare().to(examples.inputs.device)(examples.inputs)
        return MEASURES[name](network, inputs, examples.targets, partial(task.loss, smoothing=0.0))

    def _minibatch(self) -> "Examples":
        """Examples drawn from `fit`. They all differ, because NASWOT is minus infinity where two are the same."""
        if self._examples is None:
            from nas.training.loop import load_examples, pick_device

            inputs, targets = self._bench.dataset.inputs("fit"), self._bench.dataset.targets("fit")
            found: dict[bytes, int] = {}
            for index in np.random.default_rng([self._bench.seed, _MINIBATCH, _STREAM]).permutation(len(inputs)).tolist():
                found.setdefault(inputs[index].tobytes(), index)
                if len(found) == self.batch_size:
                    break
            drawn = list(found.values())
            self._examples = load_examples([(inputs[drawn], targets[drawn])], pick_device(self.device))
        return self._examples

    def _load_reference(self) -> dict[str, list[float | None]]:
        """The scores of the reference by measure, from memory, from the run's folder, or made and kept in both."""
        if not self._standings:
            settings = self._settings()
            key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
            path = self._bench.folder / "proxy" / f"reference-{key}.json"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                atomic.write_json(path, {**settings, "scores": self._score_reference()})
            # Read back even what was just written: should two processes write it, both go on with what is there.
            self._standings = json.loads(path.read_text())["scores"]
        return self._standings

    def _settings(self) -> dict[str, Any]:
        """All that the reference's scores depend on, as JSON."""
        from nas.training.loop import pick_device

        bench = self._bench
        return {
            "measures": list(self.measures),
            "batch_size": self.batch_size,
            "reference": self.reference,
            "device": pick_device(self.device).type,
            "seed": bench.seed,
            "space": {"name": type(bench.space).__name__, **bench.space.model_dump(mode="json")},
            "task": {"name": type(bench.task).__name__, **bench.task.model_dump(mode="json")},
            "data": bench.dataset.description.digest,
        }

    def _score_reference(self) -> dict[str, list[float | None]]:
        """Score a random sample of architectures; None where a measure says nothing. Raises ValueError when it never does."""
        rng = np.random.default_rng([self._bench.seed, _REFERENCE, _STREAM])
        choices = self._bench.space.choices(self._bench.task)
        scores: dict[str, list[float | None]] = {name: [] for name in self.measures}
        reasons: dict[str, str] = {}
        for _ in range(self.reference):
            network = self._network(choices.sample(rng))
            for name in self.measures:
                try:
                    scores[name].append(self._measure(network, name))
                except ProxyError as error:
                    scores[name].append(None)
                    reasons[name] = str(error)
        for measure, values in scores.items():
            if all(value is None for value in values):
                raise ValueError(f"no architecture of the reference can be scored: {reasons[measure]}")
        return scores


def standing(value: float, reference: Sequence[float | None]) -> float:
    """Return the share of a reference that a value beats, between 0 and 1; equals count half, None is below every value.

    Between the reference's values it is interpolated, and beyond them it goes on towards 0 or 1, so that of two values the
    greater has the greater share, up to rounding: the best of a search beat the whole reference. Raises IndexError when the
    reference holds nothing but None.
    """
    known = [number for number in reference if number is not None]
    values, counts = np.unique(known, return_counts=True)
    floor = 1 - len(known) / len(reference)
    places = floor + (np.cumsum(counts) - counts / 2) / len(reference)
    low, high = float(values[0]), float(values[-1])
    spread = (high - low) or abs(high) or 1.0
    if value > high:
        return float(1 - (1 - places[-1]) / (1 + (value - high) / spread))
    if value < low:
        return float(floor + (places[0] - floor) / (1 + (low - value) / spread))
    return float(np.interp(value, values, places))
