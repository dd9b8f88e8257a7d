"""What the four contracts share: settings that are described and strict, state that is plain data, refusals that are sentences."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor

from nas import checkpoint

_PLAIN = (Tensor, int, float, bool, str, type(None))


class Contract:
    """The part of a contract that does not depend on what is tested. Subclass one of the four and write `make`."""

    def make(self) -> Any:
        """Return a new component with quick settings, bound to nothing; called several times in a test."""
        raise NotImplementedError(f"{type(self).__name__} does not say what to test: write make(self), which returns a new component")

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        """Compute with one thread, since results bit for bit need a fixed number."""
        with pinned():
            yield

    def test_settings_are_described_and_strict(self) -> None:
        """A wrong setting stops a run before any work, and what is set can be written down and read again."""
        made = self.make()
        assert isinstance(made, BaseModel), f"{type(made).__name__} is no component: derive from the base class of its kind in nas"
        kind, before = type(made), made.model_dump(mode="json")
        refused = refusal(lambda: kind.model_validate({**before, "no_such_setting": 1}))
        assert refused is not None, f"{kind.__name__} takes an unknown setting in silence: leave extra='forbid' in its model_config"
        assert "no_such_setting" in refused, f"{kind.__name__} refuses its own settings as model_dump writes them: {refused}"
        for field, information in kind.model_fields.items():
            assert information.description, f"the setting {field} is not described: write a docstring below the field"
        again = kind.model_validate(before).model_dump(mode="json")
        assert again == before, "settings that are written down and read again differ: a run could not be repeated from its record"


@contextmanager
def pinned() -> Iterator[None]:
    """Have PyTorch compute with one thread inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def refusal(call: Callable[[], object]) -> str | None:
    """Return what a call says when it refuses with ValueError or KeyError; None when it does not refuse."""
    try:
        call()
    except KeyError as error:
        return str(error.args[0]) if error.args else ""
    except ValueError as error:
        return str(error)
    return None


def assert_sentence(text: str, what: str) -> None:
    """Hold a refusal to naming value, rule and cure, as far as a program can tell."""
    assert len(text.split()) >= 4, f"{what} is refused with {text!r}: say in a sentence which value breaks which rule, and the cure"


def not_plain(state: object, place: str = "the state") -> str | None:
    """Return where something is that is no plain data and what it is; None when all is tensors, numbers, text, lists and dicts."""
    if type(state) in (dict, OrderedDict, list):
        pairs = state.items() if isinstance(state, dict) else enumerate(state)  # type: ignore[arg-type]
        found = [not_plain(value, f"{place}[{key!r}]") for key, value in pairs]
        if isinstance(state, dict):
            found += [f"the key {key!r} of {place} is a {type(key).__name__}" for key in state if type(key) not in (str, int)]
        return next((problem for problem in found if problem is not None), None)
    # Exactly these types: a number of NumPy is a float too, and cannot be read back.
    return None if type(state) in _PLAIN or type(state) is torch.nn.Parameter else f"{place} is a {type(state).__name__}"


def through_file(state: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a state as a killed search finds it: written to a checkpoint in `folder` and read again.

    Raises AssertionError when it is not plain data.
    """
    problem = not_plain(state)
    assert problem is None, f"{problem}: state_dict returns tensors, numbers, text, lists and dicts, which a checkpoint can hold"
    path = folder / "state.pt"
    checkpoint.save(path, {"state": state})
    read: dict[str, Any] = checkpoint.load(path, "state")["state"]
    return read


def same_state(first: object, second: object) -> bool:
    """Whether two states hold the same, bit for bit."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and first.shape == second.shape and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same_state(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same_state, first, second))
    return repr(first) == repr(second)  # text, so that NaN equals NaN
