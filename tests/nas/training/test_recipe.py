"""The recipe: learning rates by step, what decays, and settings that are refused."""

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import SGD, AdamW

from nas.training.optimizer import make_optimizer
from nas.training.recipe import Augmentation, Recipe


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = Recipe(learning_rate=0.4, warmup=0.1)
    rates = [recipe.learning_rate_at(step, 100) for step in range(100)]
    assert rates[:3] == pytest.approx([0.4 / 11, 0.4 * 2 / 11, 0.4 * 3 / 11])
    assert rates[10] == max(rates) == pytest.approx(0.4)
    assert rates[55] == pytest.approx(0.2), "half way down"
    assert 0 < rates[-1] < 0.4 / 1000
    assert all(before < after for before, after in pairwise(rates[:11]))
    assert all(before > after for before, after in pairwise(rates[10:]))


def test_a_constant_rate_stays() -> None:
    recipe = Recipe(learning_rate=0.3, schedule="constant", warmup=0.0)
    assert {recipe.learning_rate_at(step, 7) for step in range(7)} == {0.3}


@pytest.mark.parametrize("total", [1, 2, 3])
def test_short_schedules_have_positive_rates(total: int) -> None:
    for warmup in (0.0, 0.3, 0.9):
        for step in range(total):
            rate = Recipe(warmup=warmup).learning_rate_at(step, total)
            assert math.isfinite(rate)
            assert 0 < rate <= 0.1


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adamw", AdamW)])
def test_weight_decay_spares_biases_and_normalisations(name: str, kind: type) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))
    network[3].bias.requires_grad_(False)
    optimizer = make_optimizer(Recipe.model_validate({"optimizer": name, "weight_decay": 0.25, "momentum": 0.8}), network)
    assert isinstance(optimizer, kind)
    decay = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    found = {key: decay.get(id(weight)) for key, weight in network.named_parameters()}
    assert found == {"0.weight": 0.25, "0.bias": 0, "1.weight": 0, "1.bias": 0, "3.weight": 0.25, "3.bias": None}
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.8, True) if name == "sgd" else group["betas"] == (0.8, 0.999)


def test_no_momentum_and_no_biases_still_step() -> None:
    network = nn.Linear(2, 2, bias=False)
    optimizer = make_optimizer(Recipe(momentum=0.0, learning_rate=0.5, weight_decay=0.0), network)
    before = network.weight.detach().clone()
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(network.weight, before - 0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0},
        {"momentum": 1},
        {"warmup": 1},
        {"batch_size": 1},
        {"ema": 1},
        {"optimizer": "adam"},
        {"lr": 0.1},
        {"precision": "float16"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Recipe.model_validate(wrong)
    with pytest.raises(ValidationError, match="shift"):
        Augmentation(shift=-1)


def test_every_setting_is_described() -> None:
    assert all(info.description for kind in (Recipe, Augmentation) for info in kind.model_fields.values())
