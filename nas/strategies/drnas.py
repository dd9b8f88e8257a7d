"""Gradient search over a distribution of mixtures: a Dirichlet per choice, whose samples carry the gradient to its concentration.

Chen, Wang, Cheng, Tang and Hsieh 2021, DrNAS: Dirichlet neural architecture search.
"""

from typing import TYPE_CHECKING, Any, final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.strategies.logits import Logits, Vector, parts
from nas.trial import Trial

if TYPE_CHECKING:
    from torch import Tensor


@final
class Drnas(Logits):
    """DrNAS. The concentration of a Dirichlet distribution is elu(logit) + 1."""

    regularisation: float = Field(1e-3, ge=0)
    """Weight of the divergence from the even distribution over all mixtures, which keeps the search exploring."""

    _drawn: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)

    def offer(self, number: int, rejected: set[Architecture], rng: np.random.Generator) -> tuple[Architecture, Vector] | None:
        """Offer a drawn mixture, and the likeliest architecture."""
        architecture, seed = self.likeliest(rejected), int(rng.integers(2**63))
        if architecture is None:
            return None
        self._drawn[str(number)] = {"seed": seed, "logits": self.logits.tolist()}
        samples, _ = self._sample(self.logits, seed)
        return architecture, np.concatenate([sample.detach().numpy() for sample in samples])

    @property
    def expected(self) -> Vector:
        """The mean of the distribution."""
        concentrations = [concentration(part) for part in parts(self.choices, self.logits)]
        return np.concatenate([part / part.sum() for part in concentrations])

    def chain(self, trial: Trial, gradient: Vector) -> Vector:
        """Through the sample by implicit differentiation (Figurnov, Mohamed and Mnih 2018), with the divergence's gradient added."""
        import torch
        from torch.distributions import Dirichlet, kl_divergence

        drawn = self._drawn[str(trial.number)]
        samples, logits = self._sample(np.array(drawn["logits"]), drawn["seed"])
        slopes = [torch.from_numpy(part) for part in parts(self.choices, gradient)]
        loss = torch.stack([slope @ sample for slope, sample in zip(slopes, samples, strict=True)]).sum()
        for part in logits:
            shape = torch.nn.functional.elu(part) + 1
            loss = loss + self.regularisation * kl_divergence(Dirichlet(shape), Dirichlet(torch.ones_like(shape)))
        return np.concatenate([part.numpy() for part in torch.autograd.grad(loss, logits)])

    def tell(self, trial: Trial) -> None:
        """Learn from a finished trial, and forget how it was drawn."""
        super().tell(trial)
        self._drawn.pop(str(trial.number), None)

    def state_dict(self) -> dict[str, Any]:
        """What all gradient methods remember, and how the running mixtures were drawn."""
        state = super().state_dict()
        return state and {**state, "drawn": {number: dict(drawn) for number, drawn in self._drawn.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        super().load_state_dict(state)
        self._drawn = {number: dict(drawn) for number, drawn in state.get("drawn", {}).items()}

    def _sample(self, logits: Vector, seed: int) -> "tuple[list[Tensor], list[Tensor]]":
        """A mixture that depends on the logits, and the logits, both by choice; the same for the same seed."""
        import torch
        from torch.distributions import Dirichlet

        variables = [torch.from_numpy(part.copy()).requires_grad_() for part in parts(self.choices, logits)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            samples = [Dirichlet(torch.nn.functional.elu(variable) + 1).rsample() for variable in variables]
        return samples, variables


def concentration(logits: Vector) -> Vector:
    """Return elu(logits) + 1, which is above 0 and about 1 near 0."""
    return np.where(logits > 0, logits + 1, np.exp(np.minimum(logits, 0)))
