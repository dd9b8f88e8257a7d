"""Names: the folder is the registry, and a wrong name is answered with the nearest."""

import inspect
from pathlib import Path

import pytest

import nas
from nas.load import base, load, names
from nas.strategies.evolution import Evolution

ROOMS = ("strategies", "spaces", "evaluators", "tasks", "data.sources")


HELPERS = {
    "evaluators": {"structure", "wrapper"},
    "spaces": {"graph", "parts", "published", "shared_edges", "supernet"},
    "strategies": {"gaussian", "logits", "policies"},
}


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_of_a_room_is_an_entry_or_a_known_helper(room: str) -> None:
    folder = Path(next(iter(nas.__path__))) / room.replace(".", "/")
    files = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names(room) == sorted(files - {"base", "__init__"} - HELPERS.get(room, set()))
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


@pytest.mark.parametrize("name", ["nas.spaces.chain:Chain", "json:JSONDecoder", "json:loads", "nas.strategies.base:Strategy"])
def test_what_is_not_of_the_rooms_kind_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no entry of nas/strategies: name a class that derives from nas.strategies.base.Strategy"):
        load("strategies", name)


@pytest.mark.parametrize(("content", "error"), [("def", "SyntaxError"), ("1 / 0", "ZeroDivisionError")])
def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, error: str) -> None:
    (tmp_path / f"broken_{error}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=f"'broken_{error}:Mine' cannot be loaded \\({error}: "):
        load("strategies", f"broken_{error}:Mine")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_one_kind(room: str) -> None:
    assert inspect.isabstract(base(room))
    assert all(issubclass(load(room, name), base(room)) for name in names(room))
