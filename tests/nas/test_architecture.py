"""Choices and architectures: what is drawn stays in the choices, and codes and hashes tell architectures apart."""

import json
import math
import os
import pickle
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import Architecture, Choice, Choices

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
choices_lists = st.lists(
    st.tuples(names, st.lists(names, min_size=1, max_size=4, unique=True)), max_size=5, unique_by=lambda pair: pair[0]
).map(lambda pairs: Choices([Choice(name, tuple(options)) for name, options in pairs]))
seeds = st.integers(0, 2**32 - 1)


def all_of(choices: Choices) -> list[Architecture]:
    combinations = product(*(choice.options for choice in choices))
    return [Architecture({choice.name: option for choice, option in zip(choices, answers, strict=True)}) for answers in combinations]


def differences(first: Architecture, second: Architecture) -> int:
    return sum(first[name] != second[name] for name in first)


@given(choices_lists, seeds)
def test_what_is_drawn_lies_in_the_choices(choices: Choices, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = choices.sample(rng), choices.sample(rng)
    mutant, child = choices.mutate(first, rng), choices.crossover(first, second, rng)
    for architecture in [first, second, mutant, child, *choices.neighbours(first)]:
        choices.check(architecture)
    assert differences(first, mutant) == (1 if any(len(choice.options) > 1 for choice in choices) else 0)
    assert all(child[name] in (first[name], second[name]) for name in child)


@given(choices_lists, seeds)
def test_neighbours_are_all_that_differ_in_one_choice(choices: Choices, seed: int) -> None:
    centre = choices.sample(np.random.default_rng(seed))
    found = choices.neighbours(centre)
    assert len(set(found)) == len(found) == sum(len(choice.options) - 1 for choice in choices)
    assert set(found) == {other for other in all_of(choices) if differences(centre, other) == 1}


@given(choices_lists)
def test_size_counts_and_the_code_is_one_hot_and_tells_all_apart(choices: Choices) -> None:
    everything = all_of(choices)
    assert choices.size == len(set(everything)) == math.prod(len(choice.options) for choice in choices)
    codes = np.array([choices.encode(architecture) for architecture in everything])
    assert codes.dtype == np.float32
    assert len(np.unique(codes, axis=0)) == len(everything)
    start = 0
    for choice in choices:
        block = codes[:, start : start + len(choice.options)]
        assert set(np.unique(block)) <= {0.0, 1.0}
        assert (block.sum(axis=1) == 1).all()
        start += len(choice.options)
    assert codes.shape[1] == start


@given(st.dictionaries(names, names, max_size=5))
def test_an_architecture_is_a_value(options: dict[str, str]) -> None:
    architecture = Architecture(options)
    again = Architecture(dict(reversed(options.items())))
    assert architecture == again
    assert hash(architecture) == hash(again)
    assert Architecture(json.loads(json.dumps(dict(architecture)))) == architecture
    assert pickle.loads(pickle.dumps(architecture)) == architecture  # noqa: S301 - our own bytes
    options["new choice"] = "?"
    assert architecture == again
    assert architecture != Architecture(options)
    assert architecture != dict(architecture)


def test_an_architecture_cannot_be_changed() -> None:
    architecture = Architecture({"a": "x"})
    with pytest.raises(TypeError):
        architecture["a"] = "y"  # type: ignore[index]
    with pytest.raises(AttributeError):
        architecture.b = "y"  # type: ignore[attr-defined]
    assert architecture.replace("a", "y") == Architecture({"a": "y"})
    assert architecture["a"] == "x"


def test_a_copy_in_another_process_is_found_in_its_dictionaries() -> None:
    """The hash of a text is another one in each process."""
    architecture = Architecture({"a": "x", "b": "y"})
    hash(architecture)
    code = (
        "import pickle, sys; from nas.architecture import Architecture\n"
        f"assert pickle.loads({pickle.dumps(architecture)!r}) in {{Architecture({dict(architecture)!r})}}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "12345"}, timeout=60)


@pytest.mark.parametrize("options", [(), ("a", "a")])
def test_a_choice_needs_options_each_once(options: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"'kernel'.*at least one, each once"):
        Choice("kernel", options)


def test_two_choices_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="not unique: rename one"):
        Choices([Choice("a", ("x",)), Choice("a", ("y",))])


def test_check_names_what_differs() -> None:
    choices = Choices([Choice("a", ("x", "y")), Choice("b", ("z",))])
    with pytest.raises(ValueError, match=r"choices \['b', 'c'\]"):
        choices.check({"a": "x", "c": "z"})
    with pytest.raises(ValueError, match="a is 'q': pick one of x, y"):
        choices.check({"a": "q", "b": "z"})


def test_draws_are_uniform() -> None:
    """Each of the 6 architectures, mutants and coins within five standard deviations of their share."""
    choices, rng, draws = Choices([Choice("a", ("x", "y", "z")), Choice("b", ("u", "v"))]), np.random.default_rng(0), 6000
    start = Architecture({"a": "x", "b": "u"})
    sampled = [choices.sample(rng) for _ in range(draws)]
    mutants = [choices.mutate(start, rng) for _ in range(draws)]
    children = [choices.crossover(start, Architecture({"a": "y", "b": "v"}), rng) for _ in range(draws)]
    shares = {Architecture({"a": "y", "b": "u"}): 0.25, Architecture({"a": "z", "b": "u"}): 0.25, Architecture({"a": "x", "b": "v"}): 0.5}
    for architecture in all_of(choices):
        expect_share(sampled.count(architecture), draws, 1 / 6)
        expect_share(mutants.count(architecture), draws, shares.get(architecture, 0))
        expect_share(children.count(architecture), draws, 0 if architecture["a"] == "z" else 0.25)


def expect_share(count: int, draws: int, share: float) -> None:
    assert abs(count - draws * share) <= 5 * math.sqrt(draws * share * (1 - share))
