"""The mlp space: inputs of any shape, skipped layers that are no places, and what is refused."""

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
from nas.spaces.mlp import Mlp

SMALL = Mlp(trunk=8, widths=(4, 6), normalisations=("layer", "batch", "none"), activations=("relu", "silu", "gelu", "tanh"))


class Rows:
    """What a space sees of a task whose examples are rows of numbers."""

    def __init__(self, *shape: int) -> None:
        self.input_shape = shape

    def head(self, channels: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(channels, 3))


def test_the_decisions_of_a_layer() -> None:
    choices = {choice.name: choice.options for choice in Mlp(layers=2, widths=(4, 8)).choices(task_of())}
    parts = {
        "normalisation": ("layer", "batch"),
        "activation": ("relu", "silu"),
        "dropout": ("p0", "p0.1"),
        "shortcut": ("identity", "none"),
    }
    inside = {f"layer_{layer}.{part}": options for layer in (0, 1) for part, options in parts.items()}
    assert choices == {"layer_0": ("w4", "w8"), "layer_1": ("skip", "w4", "w8"), **inside}


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4, 2)], ids=str)
def test_inputs_of_any_shape(shape: tuple[int, ...]) -> None:
    task, rng = Rows(*shape), np.random.default_rng(0)
    choices = SMALL.choices(task)  # type: ignore[arg-type]
    for _ in range(5):
        network = SMALL.build(choices.sample(rng), task)  # type: ignore[arg-type]
        assert network[:-1](torch.randn(2, *shape)).shape == (2, 8, *[1] * (len(shape) - 1))
        assert network(torch.randn(2, *shape)).shape == (2, 3)
    supernet = SMALL.supernet(task)  # type: ignore[arg-type]
    supernet.set_architecture(choices.sample(rng))
    assert supernet(torch.randn(2, *shape)).shape == (2, 3)


def test_a_layer_is_what_its_options_say() -> None:
    answers = {
        "layer_0": "w6",
        "layer_0.normalisation": "batch",
        "layer_0.activation": "gelu",
        "layer_0.dropout": "p0.1",
        "layer_0.shortcut": "none",
    }
    one = SMALL.model_copy(update={"layers": 1})
    layer = one.build(answers, task_of())[2]
    assert [type(part) for part in layer.layers] == [nn.BatchNorm1d, nn.Linear, nn.GELU, nn.Dropout, nn.Linear]
    assert (layer.layers[1].in_features, layer.layers[1].out_features, layer.layers[3].p) == (8, 6, 0.1)
    features = torch.randn(3, 8)
    layer.eval()
    torch.testing.assert_close(layer(features), layer.layers(features))
    added = one.build({**answers, "layer_0.shortcut": "identity"}, task_of())[2].eval()
    added.load_state_dict(layer.state_dict())
    torch.testing.assert_close(added(features), features + layer(features))


def test_equal_forms_are_equal_functions_and_others_are_not() -> None:
    assert_forms_are_functions(SMALL, task_of(classes=3), [["layer_1", "layer_2"]], 40)


def test_all_architectures_make_as_many_forms_as_there_are_rows_of_layers() -> None:
    space, task = Mlp(layers=3, widths=(4, 8), activations=("relu",), dropouts=(0.0,), shortcuts=("identity",)), task_of()
    choices = space.choices(task)
    names = [choice.name for choice in choices]
    forms = {space.canonical(dict(zip(names, answers, strict=True)), task) for answers in product(*(choice.options for choice in choices))}
    assert len(forms) == 4 * (1 + 4 + 16), "two widths and two normalisations: 4 kinds of layer"


def test_a_single_path_is_the_stand_alone_network() -> None:
    task, rng = task_of((7, 5, 3), classes=3), np.random.default_rng(0)
    space = SMALL.model_copy(update={"dropouts": (0.0,)})
    assert_single_paths_match(space, task, [space.choices(task).sample(rng) for _ in range(12)])


def test_a_mixture_learns() -> None:
    assert_mixture_learns(SMALL, task_of(classes=3))


def test_a_training_brings_the_loss_down(digits: Dataset) -> None:
    architecture = Mlp().choices(task_of()).sample(np.random.default_rng(0))
    assert_loss_falls(Mlp(), architecture, digits)


def test_examples_that_are_too_large_or_empty_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'mlp' takes at most 65536 numbers per example, the task gives 150528 in shape \(3, 224, 224\)"):
        Mlp().choices(task_of((224, 224, 3)))
    assert Mlp(most_inputs=150_528).choices(task_of((224, 224, 3)))
    for shape in ((), (0,)):
        with pytest.raises(ValueError, match="'mlp' wants numbers, the task gives examples of shape"):
            Mlp().choices(Rows(*shape))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"trunk": 1}, "greater than or equal to 2"),
        ({"layers": 0}, "greater than or equal to 1"),
        ({"widths": ()}, "at least 1 item"),
        ({"widths": (8, 8)}, "holds an entry twice"),
        ({"dropouts": (1.0,)}, "less than 1"),
        ({"dropouts": (0, 0.0)}, "holds an entry twice"),
        ({"activations": ("elu",)}, "'relu', 'silu', 'gelu' or 'tanh'"),
        ({"normalisations": ("layer", "layer")}, "holds an entry twice"),
        ({"most_inputs": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Mlp.model_validate(settings)


def test_what_a_kept_layer_does_not_answer_is_named_and_a_skipped_one_need_not_answer() -> None:
    task = task_of()
    architecture = SMALL.choices(task).sample(np.random.default_rng(0)).replace("layer_1", "skip")
    skipped = Architecture({name: option for name, option in architecture.items() if name != "layer_1.dropout"})
    assert SMALL.canonical(skipped, task) == SMALL.canonical(architecture, task)
    with pytest.raises(KeyError, match=r"does not answer layer_1.dropout: pick one of p0, p0.1"):
        SMALL.canonical(skipped.replace("layer_1", "w4"), task)
    with pytest.raises(ValueError, match=r"layer_0.activation is 'elu': pick one of relu, silu"):
        SMALL.canonical(architecture.replace("layer_0.activation", "elu"), task)
