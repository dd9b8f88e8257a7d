"""Full training of one network from one seed, with checkpoints: a killed training continues as if it had not been."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from nas import atomic, checkpoint
from nas.checkpoint import CheckpointError
from nas.tasks.base import Task
from nas.training.limits import Limits
from nas.training.loop import Examples, Pace, Training, outputs_of
from nas.training.recipe import Recipe

_EVALUATIONS = 30
"""Evaluations on the held-out examples in all, at most; they choose the weights."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a full training is made of. `sign` is +1 when `metric` is to be large and -1 when small.

    A checkpoint is written at every evaluation, and within an epoch when `checkpoint_seconds` of wall time have passed since the
    last such one; no result depends on it. `between` is called between steps, for whoever has to wait for them.
    """

    recipe: Recipe
    epochs: int
    seed: int
    device: torch.device
    metric: str
    sign: int
    checkpoint_seconds: float = 30.0
    between: Callable[[], object] | None = None


@dataclass(slots=True)
class Progress:
    """What a checkpoint holds beside the training: the curve so far and the best weights by the held-out metric."""

    curve: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)


def retrain(network: nn.Module, task: Task, plan: Plan, folder: Path, examples: Examples, held_out: Examples | None) -> Progress:
    """Train for all epochs, from the last checkpoint in `folder` if there is one, and return the curve and the chosen weights.

    With held-out examples the weights of the best evaluation are chosen, of equal ones those with the smaller loss, else the
    last; without, the last weights. Checkpoints and, at the end, `seed-N.safetensors` are written to `folder`. Raises
    LimitError when training diverges, CheckpointError when the last checkpoint is damaged or another training's, ValueError
    when the plan's metric cannot be measured on the held-out examples.
    """
    if held_out is not None and plan.metric not in task.metric_names:
        known = ", ".join(task.metric_names)
        raise ValueError(f"weights cannot be chosen by {plan.metric!r}, which training does not change: choose one of {known}")
    batch = min(plan.recipe.batch_size, len(examples))
    per_epoch = len(examples) // batch
    training = Training(network, task, plan.recipe, total=plan.epochs * per_epoch, seed=plan.seed, device=plan.device)
    path = folder / f"seed-{plan.seed}.pt"
    progress = _continue(training, path) if path.exists() else Progress()

    def write() -> None:
        checkpoint.save(path, {"training": training.state_dict(), "progress": _plain(progress)})

    pace = Pace(plan.checkpoint_seconds, write)

    def between() -> None:
        if plan.between is not None:
            plan.between()
        pace()

    every = -(-plan.epochs // _EVALUATIONS)
    with Limits(divergence_steps=None).watch(plan.device) as guard:
        for epoch in range(training.step // per_epoch, plan.epochs):
            loss = training.advance(examples, (epoch + 1) * per_epoch, guard, between)
            if (epoch + 1) % every == 0 or epoch + 1 == plan.epochs:
                _note(progress, training, plan, {"epoch": epoch + 1, "training_loss": loss}, held_out)
                write()
                atomic.write_text(folder / f"seed-{plan.seed}.epoch", str(epoch + 1))
    data = save(progress.weights, {"seed": str(plan.seed)})
    atomic.write(folder / f"seed-{plan.seed}.safetensors", lambda file: file.write(data))
    return progress


def _continue(training: Training, path: Path) -> Progress:
    state = checkpoint.load(path, "training", "progress")
    try:
        training.load_state_dict(state["training"])
        _ = training.optimizer  # what it was is looked at only now
        return Progress(**state["progress"])
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is the checkpoint of another training: remove it, and this one starts over") from error


def _note(progress: Progress, training: Training, plan: Plan, row: dict[str, float], held_out: Examples | None) -> None:
    network = training.result
    if held_out is not None:
        row |= training.task.metrics(outputs_of(network, held_out, training.task), held_out.targets.cpu())
    progress.curve.append(row)
    if held_out is None or not progress.best or _goodness(row, plan) >= _goodness(progress.best, plan):
        progress.best = row
        progress.weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}


def _goodness(row: Mapping[str, float], plan: Plan) -> tuple[float, float]:
    return plan.sign * row[plan.metric], -row.get("loss", 0.0)


def _plain(progress: Progress) -> dict[str, Any]:
    return {"curve": progress.curve, "best": progress.best, "weights": progress.weights}
