"""What the README tells a person to write into params.yaml, or to say on the command line, is accepted."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flows import settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
OVERRIDES = re.findall(r"^(?:nasflow \w+.*|dvc exp run.*?) (?:--set|-S) (.+?)(?:  +#.*)?$", README, re.MULTILINE)


def merged(old: Any, new: Any) -> Any:
    """`old` with the keys of `new`; an entry of another name takes none of the old one's settings."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping) or new.get("name", old.get("name")) != old.get("name"):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def test_there_are_examples() -> None:
    assert BLOCKS
    assert OVERRIDES


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_fits_into_the_file(block: str) -> None:
    yaml = YAML(typ="safe")
    settings.parse(merged(yaml.load((ROOT / settings.FILE).read_text()), yaml.load(block)))


@pytest.mark.parametrize("line", OVERRIDES)
def test_an_override_is_accepted(line: str, tmp_path: Path) -> None:
    (tmp_path / settings.FILE).write_text((ROOT / settings.FILE).read_text())
    words = [word for word in shlex.split(line) if "=" in word]
    settings.read(tmp_path, words)
    assert words
