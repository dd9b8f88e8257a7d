"""The resnet space: the published networks' sizes, skipped blocks that are no places, and what is refused."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_images import task_of
from space_checks import (
    assert_forms_are_functions,
    assert_loss_falls,
    assert_mixture_learns,
    assert_single_paths_match,
    copy_in_order,
    inputs_of,
)
from torch import nn

from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.networks.parts import SqueezeExcite
from nas.spaces.parts import block_name
from nas.spaces.resnet import Resnet

SMALL = Resnet(widths=(4, 6), depth=3, stem=4, squeeze=2)


def published(space: Resnet, blocks: tuple[int, ...], kind: str) -> nn.Module:
    """The network for ImageNet with so many blocks per stage, on the meta device."""
    task = task_of((64, 64, 3), classes=1000)
    answers = dict(space.choices(task).sample(np.random.default_rng(0)))
    for stage, count in enumerate(blocks):
        for block in range(space.depth):
            answers[block_name(stage, block)] = kind if block < count else "skip"
    with torch.device("meta"):
        return space.build(answers, task)


@pytest.mark.parametrize(
    ("kind", "widths", "blocks", "parameters"),
    [("basic", (64, 128, 256, 512), (2, 2, 2, 2), 11_689_512), ("bottleneck", (256, 512, 1024, 2048), (3, 4, 6, 3), 25_557_032)],
    ids=["resnet-18", "resnet-50"],
)
def test_the_published_networks_have_their_published_sizes(
    kind: str, widths: tuple[int, ...], blocks: tuple[int, ...], parameters: int
) -> None:
    """The last normalisation is for pre-activation blocks, and in no network of the first paper."""
    space = Resnet.model_validate(
        {
            "widths": widths,
            "depth": max(blocks),
            "kinds": (kind,),
            "multipliers": (1,),
            "kernels": (3,),
            "gates": ("none",),
            "shortcuts": ("convolution",),
            "stem": 64,
            "stem_kernel": 7,
            "stem_stride": 2,
        }
    )
    network = published(space, blocks, f"{kind}_w1")
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters + 2 * widths[-1]


def test_the_decisions_of_a_stage() -> None:
    choices = {choice.name: choice.options for choice in Resnet(widths=(4, 8), depth=2).choices(task_of())}
    kinds = ("basic_w1", "basic_w2", "bottleneck_w1", "bottleneck_w2", "preactivation_w1", "preactivation_w2")
    first = {"stage_0.block_0": kinds, "stage_0.block_1": ("skip", *kinds), "stage_1.block_0": kinds, "stage_1.block_1": ("skip", *kinds)}
    inside = {f"{name}.kernel": ("k3", "k5") for name in first} | {f"{name}.gate": ("none", "squeeze_excite") for name in first}
    assert choices == first | inside | {"stage_1.shortcut": ("convolution", "pooling")}


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("basic_w2", [(8, 4, 5, 5), (4, 8, 5, 5)]),
        ("preactivation_w1", [(4, 4, 5, 5), (4, 4, 5, 5)]),
        ("bottleneck_w2", [(2, 4, 1, 1), (2, 2, 5, 5), (4, 2, 1, 1)]),
    ],
)
def test_a_block_is_what_its_options_say(kind: str, shapes: list[tuple[int, ...]]) -> None:
    space, task = Resnet(widths=(4,), depth=1, stem=4, squeeze=2), task_of()
    answers = {"stage_0.block_0": kind, "stage_0.block_0.kernel": "k5", "stage_0.block_0.gate": "squeeze_excite"}
    block = space.build(answers, task)[3]
    found = [tuple(module.weight.shape) for module in block.modules() if isinstance(module, nn.Conv2d) and module.bias is None]
    assert found == shapes
    (gate,) = (module for module in block.modules() if isinstance(module, SqueezeExcite))
    assert gate.weigh[1].out_channels == 2
    outputs = block(torch.randn(4, 4, 6, 6))
    assert bool((outputs < 0).any()) == kind.startswith("preactivation"), "nothing follows the sum of a pre-activation block"


def test_equal_forms_are_equal_functions_and_others_are_not() -> None:
    slots = [[block_name(stage, block) for block in (1, 2)] for stage in (0, 1)]
    assert_forms_are_functions(SMALL, task_of(classes=3), slots, 20)


def test_two_ways_to_halve_are_two_functions() -> None:
    task = task_of()
    architecture = SMALL.choices(task).sample(np.random.default_rng(0))
    ways = [architecture.replace("stage_1.shortcut", way) for way in ("convolution", "pooling")]
    assert SMALL.canonical(ways[0], task) != SMALL.canonical(ways[1], task)
    networks = [SMALL.build(way, task).eval() for way in ways]
    assert copy_in_order(*networks, inputs_of(task))
    assert not torch.allclose(networks[0](inputs_of(task)), networks[1](inputs_of(task)))


def test_a_single_path_is_the_stand_alone_network() -> None:
    task, rng = task_of((7, 5, 3), classes=3), np.random.default_rng(0)
    assert_single_paths_match(SMALL, task, [SMALL.choices(task).sample(rng) for _ in range(8)])


def test_a_mixture_learns() -> None:
    assert_mixture_learns(SMALL, task_of(classes=3))


def test_a_training_brings_the_loss_down(digits: Dataset) -> None:
    architecture = SMALL.choices(task_of()).sample(np.random.default_rng(0))
    assert_loss_falls(SMALL, architecture, digits)


@pytest.mark.parametrize("way", ["convolution", "pooling"])
@pytest.mark.parametrize(("shape", "features"), [((9, 5, 1), (3, 2)), ((8, 8, 1), (2, 2)), ((3, 3, 1), (1, 1)), ((1, 1, 1), (1, 1))])
def test_a_stage_halves_the_image_rounded_up(way: str, shape: tuple[int, int, int], features: tuple[int, int]) -> None:
    space, task = Resnet(), task_of(shape)
    architecture = space.choices(task).sample(np.random.default_rng(0)).replace("stage_1.shortcut", way).replace("stage_2.shortcut", way)
    network = space.build(architecture, task)
    assert network[:-1](torch.zeros(2, 1, *shape[:2])).shape == (2, 32, *features)


def test_an_image_that_is_one_pixel_too_early_is_refused() -> None:
    deep = Resnet(widths=(4,) * 5, depth=1)
    with pytest.raises(
        ValueError, match=r"'resnet' halves height and width 4 times, but images of 8 x 8 are one pixel .*: take away 1 of widths"
    ):
        deep.choices(task_of((8, 8, 1)))
    assert deep.choices(task_of((9, 4, 1)))
    assert Resnet(widths=(4,) * 4, depth=1).choices(task_of((8, 8, 1)))
    with pytest.raises(ValueError, match="4 times"):
        Resnet(widths=(4,) * 4, depth=1, stem_stride=2).choices(task_of((8, 8, 1)))


def test_other_inputs_than_images_are_refused() -> None:
    class Row:
        input_shape = (16,)

    with pytest.raises(ValueError, match="space 'resnet' wants images"):
        Resnet().choices(Row())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"widths": ()}, "at least 1 item"),
        ({"widths": (8, 0)}, "greater than 0"),
        ({"depth": 0}, "greater than or equal to 1"),
        ({"kinds": ("basic", "wide")}, "'basic', 'bottleneck' or 'preactivation'"),
        ({"kinds": ("basic", "basic")}, "holds an entry twice"),
        ({"multipliers": (2, 2)}, "holds an entry twice"),
        ({"kernels": (2,)}, "1, 3, 5, 7"),
        ({"gates": ()}, "at least 1 item"),
        ({"squeeze": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Resnet.model_validate(settings)


def test_what_a_kept_block_does_not_answer_is_named_and_a_skipped_one_need_not_answer() -> None:
    task = task_of()
    architecture = SMALL.choices(task).sample(np.random.default_rng(0)).replace("stage_0.block_1", "skip")
    skipped = Architecture({name: option for name, option in architecture.items() if name != "stage_0.block_1.gate"})
    assert SMALL.canonical(skipped, task) == SMALL.canonical(architecture, task)
    with pytest.raises(KeyError, match=r"does not answer stage_0.block_1.gate: pick one of none, squeeze_excite"):
        SMALL.canonical(skipped.replace("stage_0.block_1", "basic_w1"), task)
    with pytest.raises(ValueError, match=r"stage_1.shortcut is 'gap': pick one of convolution, pooling"):
        SMALL.canonical(architecture.replace("stage_1.shortcut", "gap"), task)
