"""What holds for every file of nas/data/sources: add a source, and it is checked here without a change."""

import importlib
import inspect
from pathlib import Path

import pytest
from pydantic import ValidationError

import nas.data.sources
from nas.data.sources.base import Source

FOLDER = Path(nas.data.sources.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "base"))


def source_class(name: str) -> type[Source]:
    module = importlib.import_module(f"nas.data.sources.{name}")
    found = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    assert issubclass(found, Source)
    return found


def example(found: type[Source]) -> Source:
    """Build a source with its required settings alone."""
    return found.model_validate({name: "somewhere" for name, field in found.model_fields.items() if field.is_required()})


def test_the_known_sources_are_there() -> None:
    assert {"csv", "digits", "idx", "images", "npz"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_documented_checked_and_frozen(name: str) -> None:
    found = source_class(name)
    assert inspect.getdoc(found) != inspect.getdoc(Source)
    assert inspect.getdoc(found.read)
    assert [field for field, info in found.model_fields.items() if not info.description] == []
    source = example(found)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        found.model_validate({**source.model_dump(), "no_such_setting": 1})
    assert found.model_validate(source.model_dump(mode="json")) == source
    assert found.model_json_schema()["additionalProperties"] is False
    for field in found.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(source, field, None)


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_settings_and_a_missing_one_is_an_error_with_a_cure(name: str, tmp_path: Path, refuses: object) -> None:
    source = example(source_class(name))
    if source.paths():
        assert all(path in source.model_dump().values() for path in source.paths())
        refuses(source, "somewhere")  # type: ignore[operator]
    else:
        assert source.read(tmp_path).targets.size > 0
