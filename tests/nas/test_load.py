"""Names: the folder is the registry, and a wrong name is answered with the nearest."""

import inspect
from pathlib import Path

import pytest

import nas
from nas.load import load, names
from nas.strategies.evolution import Evolution

ROOMS = ("strategies", "spaces", "evaluators", "tasks", "data.sources")


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_of_a_room_is_an_entry(room: str) -> None:
    folder = Path(next(iter(nas.__path__))) / room.replace(".", "/")
    files = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names(room) == sorted(files - {"base", "supernet", "__init__"})
    for name in names(room):
        assert inspect.isclass(load(room, name))
        assert not inspect.isabstract(load(room, name)), "an entry can be made"


def test_a_name_gives_its_class() -> None:
    assert load("strategies", "evolution") is Evolution
    assert load("strategies", "nas.strategies.evolution:Evolution") is Evolution


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="'evolutoin' is not one of nas/strategies: did you mean 'evolution'"):
        load("strategies", "evolutoin")
    with pytest.raises(ValueError, match=r"there are .*evolution, .*random"):
        load("strategies", "zzz")
    with pytest.raises(ValueError, match="is not one of"):
        load("strategies", "base")


@pytest.mark.parametrize("name", ["no_such_package:Class", "nas.strategies.evolution:Missing", ":Class", ".relative:Class", "nas.load:"])
def test_a_path_that_leads_nowhere_is_refused_with_the_form(name: str) -> None:
    with pytest.raises(ValueError, match=r"write package.module:Class of something that can be imported"):
        load("strategies", name)
