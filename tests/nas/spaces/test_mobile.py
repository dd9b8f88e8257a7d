"""The mobile space: the published network's size, skipped blocks that are no places, and what is refused."""

from itertools import product

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_images import task_of
from space_checks import assert_forms_are_functions, assert_loss_falls, assert_mixture_learns, assert_single_paths_match
from torch import nn

from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.networks.parts import SqueezeExcite
from nas.spaces.mobile import Mobile
from nas.spaces.parts import block_name

SMALL = Mobile(widths=(4, 6), strides=(1, 2), depth=3, stem=4, last=8, expansions=(1, 2))


def test_mobilenet_v2_has_its_published_size() -> None:
    space = Mobile(
        widths=(16, 24, 32, 64, 96, 160, 320),
        strides=(1, 2, 2, 2, 1, 2, 1),
        depth=4,
        kernels=(3,),
        expansions=(1, 6),
        squeeze_excite=(0.0,),
        stem=32,
        stem_stride=2,
        last=1280,
    )
    task = task_of((224, 224, 3), classes=1000)
    answers = dict(space.choices(task).sample(np.random.default_rng(0)))
    for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for block in range(4):
            answers[block_name(stage, block)] = ("e6" if stage else "e1") if block < blocks else "skip"
    with torch.device("meta"):
        network = space.build(answers, task)
        features = network[:-1](torch.zeros(1, 3, 224, 224))
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_504_872
    assert features.shape == (1, 1280, 7, 7)


def test_the_decisions_of_a_block() -> None:
    choices = {choice.name: choice.options for choice in Mobile(widths=(4,), strides=(1,), depth=2).choices(task_of())}
    assert choices == {
        "stage_0.block_0": ("e3", "e6"),
        "stage_0.block_0.kernel": ("k3", "k5"),
        "stage_0.block_0.squeeze_excite": ("none", "se0.25"),
        "stage_0.block_1": ("skip", "e3", "e6"),
        "stage_0.block_1.kernel": ("k3", "k5"),
        "stage_0.block_1.squeeze_excite": ("none", "se0.25"),
    }


def test_a_block_is_what_its_options_say() -> None:
    task = task_of()
    answers = {"stage_0.block_0": "e3", "stage_0.block_0.kernel": "k5", "stage_0.block_0.squeeze_excite": "se0.25"}
    block = Mobile(widths=(4,), strides=(1,), depth=1, stem=8).build(answers, task)[3]
    expand, spatial, project = (module for module in block.modules() if isinstance(module, nn.Conv2d) and module.bias is None)
    assert (expand.out_channels, spatial.groups, spatial.kernel_size, project.out_channels) == (24, 24, (5, 5), 4)
    (gate,) = (module for module in block.modules() if isinstance(module, SqueezeExcite))
    assert gate.weigh[1].out_channels == 6


def test_equal_forms_are_equal_functions_and_others_are_not() -> None:
    slots = [[block_name(stage, block) for block in (1, 2)] for stage in (0, 1)]
    assert_forms_are_functions(SMALL, task_of(classes=3), slots, 20)


def test_all_architectures_make_as_many_forms_as_there_are_rows_of_blocks() -> None:
    """One of 2 kinds, then 0, 1 or 2 blocks of 2 kinds. (NAS-Bench-Macro's first blocks have a third kind: 3 x 7 = 21 per such stage.)"""
    space, task = Mobile(widths=(4, 6), strides=(1, 2), depth=3, kernels=(3,), expansions=(1, 2), squeeze_excite=(0.0,)), task_of()
    names = [block_name(stage, block) for stage in range(2) for block in range(3)]
    inside = {f"{name}.{part}": option for name in names for part, option in (("kernel", "k3"), ("squeeze_excite", "none"))}
    options = [choice.options for choice in space.choices(task) if choice.name in names]
    forms = {space.canonical({**inside, **dict(zip(names, answers, strict=True))}, task) for answers in product(*options)}
    assert len(forms) == (2 * (1 + 2 + 4)) ** 2


def test_a_single_path_is_the_stand_alone_network() -> None:
    task, rng = task_of((7, 5, 3), classes=3), np.random.default_rng(0)
    assert_single_paths_match(SMALL, task, [SMALL.choices(task).sample(rng) for _ in range(8)])


def test_a_mixture_learns() -> None:
    assert_mixture_learns(SMALL, task_of(classes=3))


def test_a_training_brings_the_loss_down(digits: Dataset) -> None:
    architecture = SMALL.choices(task_of()).sample(np.random.default_rng(0))
    assert_loss_falls(SMALL, architecture, digits)


@pytest.mark.parametrize(("shape", "features"), [((9, 5, 1), (3, 2)), ((8, 8, 1), (2, 2)), ((3, 3, 1), (1, 1)), ((1, 1, 1), (1, 1))])
def test_a_stride_halves_the_image_rounded_up(shape: tuple[int, int, int], features: tuple[int, int]) -> None:
    space, task = Mobile(), task_of(shape)
    network = space.build(space.choices(task).sample(np.random.default_rng(0)), task)
    assert network[:-1](torch.zeros(2, 1, *shape[:2])).shape == (2, 64, *features)


def test_an_image_that_is_one_pixel_too_early_is_refused() -> None:
    deep = Mobile(widths=(4,) * 5, strides=(1, 2, 2, 2, 2), depth=1)
    with pytest.raises(
        ValueError, match=r"'mobile' halves height and width 4 times, but images of 8 x 8 are one pixel .*: give at most 3 of .* a 2"
    ):
        deep.choices(task_of((8, 8, 1)))
    assert deep.choices(task_of((9, 4, 1)))
    assert Mobile(widths=(4,) * 4, strides=(1, 2, 2, 2), depth=1).choices(task_of((8, 8, 1)))


def test_other_inputs_than_images_are_refused() -> None:
    class Row:
        input_shape = (16,)

    with pytest.raises(ValueError, match="space 'mobile' wants images"):
        Mobile().choices(Row())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"strides": (1, 2)}, "strides has 2 entries and widths 3: give one of each per stage"),
        ({"strides": (1, 2, 3)}, "1 or 2"),
        ({"kernels": (3, 4)}, "1, 3, 5, 7"),
        ({"kernels": (3, 3)}, "holds an entry twice"),
        ({"kernels": ()}, "at least 1 item"),
        ({"expansions": (0,)}, "greater than 0"),
        ({"squeeze_excite": (1.5,)}, "less than or equal to 1"),
        ({"squeeze_excite": (0, 0.0)}, "holds an entry twice"),
        ({"depth": 0}, "greater than or equal to 1"),
        ({"activation": "gelu"}, "'relu6', 'silu' or 'hardswish'"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Mobile.model_validate(settings)


def test_what_a_kept_block_does_not_answer_is_named_and_a_skipped_one_need_not_answer() -> None:
    task = task_of()
    architecture = SMALL.choices(task).sample(np.random.default_rng(0)).replace("stage_0.block_1", "skip")
    skipped = Architecture({name: option for name, option in architecture.items() if name != "stage_0.block_1.kernel"})
    assert SMALL.canonical(skipped, task) == SMALL.canonical(architecture, task)
    with pytest.raises(KeyError, match=r"does not answer stage_0.block_1.kernel: pick one of k3, k5"):
        SMALL.canonical(skipped.replace("stage_0.block_1", "e2"), task)
    with pytest.raises(ValueError, match=r"stage_0.block_0.kernel is 'k9': pick one of k3, k5"):
        SMALL.canonical(architecture.replace("stage_0.block_0.kernel", "k9"), task)
