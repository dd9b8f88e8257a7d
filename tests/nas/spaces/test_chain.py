"""The chain space: its settings, its shapes, and group normalisation where little is left to normalise."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_images import random_images, task_of
from torch import nn

from nas.spaces.chain import Chain
from nas.training.cost import cost


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"kernels": (3, 4)}, "a kernel must be odd"),
        ({"kernels": ()}, "at least 1 item"),
        ({"kernels": (3, 3)}, "holds an entry twice"),
        ({"widths": ((16, 16),)}, "holds an entry twice"),
        ({"widths": ()}, "at least 1 item"),
        ({"widths": ((0,),)}, "greater than 0"),
        ({"blocks": 0}, "greater than or equal to 1"),
        ({"expansions": (-1,)}, "greater than 0"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Chain.model_validate(settings)


def test_the_number_of_architectures() -> None:
    space = Chain(widths=((4, 6), (6,)), blocks=2, kernels=(3, 5), expansions=(1, 2))
    per_stage = 2 * 3 * 2 * 2 * (2 * 2) ** 2  # normalisation, activation, shortcut, second block or not, kernel and expansion of two
    assert space.choices(task_of()).size == 2 * per_stage * 3 * per_stage


def test_a_stage_halves_the_image_rounded_up() -> None:
    task, space = task_of((9, 5, 1)), Chain(widths=((4,), (4,), (4,)))
    for pooling in ("max", "average", "stride"):
        architecture = space.choices(task).sample(np.random.default_rng(0))
        for stage in (1, 2):
            architecture = architecture.replace(f"stage_{stage}.pooling", pooling)
        network = space.build(architecture, task)
        features = nn.Sequential(*list(network.children())[:-1])(torch.zeros(2, 1, 9, 5))
        assert features.shape == (2, 4, 3, 2), pooling


@pytest.mark.parametrize("width", [2, 4, 8, 16, 24, 7])
def test_group_normalisation_works_on_one_pixel_of_one_image(width: int) -> None:
    space, task = Chain(widths=((width,),)), task_of((1, 1, 1))
    architecture = space.choices(task).sample(np.random.default_rng(0)).replace("stage_0.normalisation", "group")
    network = space.build(architecture, task)
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert all(module.num_channels > module.num_groups for module in norms)
    one, other = (network(task.prepare()(random_images(1, (1, 1, 1), seed))) for seed in (0, 1))
    assert not torch.equal(one, other), "the image still counts"
    with torch.device("meta"):
        assert cost(space.build(architecture, task), task)["flops"] > 0


def test_unasked_decisions_do_not_count() -> None:
    space, task = Chain(), task_of()
    architecture = space.choices(task).sample(np.random.default_rng(0)).replace("stage_0.block_1", "skip")
    form = space.canonical(architecture, task)
    kernel = "stage_0.block_1.kernel"
    assert space.canonical(architecture.replace(kernel, "3"), task) == space.canonical(architecture.replace(kernel, "5"), task) == form
    kept = architecture.replace("stage_0.block_1", "conv")
    assert space.canonical(kept.replace(kernel, "3"), task) != space.canonical(kept.replace(kernel, "5"), task)
