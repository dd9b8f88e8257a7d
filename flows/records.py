"""The JSON records that stages leave, read so that one that is missing or damaged is told in a sentence with its cure."""

import json
import os
from pathlib import Path
from typing import Any, final

PULL = "bring it back with `dvc pull`, or run `nasflow run`"
RESTORE = "bring the right one back with `dvc pull --force`, or run `nasflow run`"


class RecordError(ValueError):
    """A record that cannot be read; the message says which, why, and how to bring it back."""


@final
class MissingError(RecordError):
    """A record that is not there."""


def read(path: Path, *names: str) -> dict[str, Any]:
    """Return a record that holds these names at least. Raises RecordError."""
    content = _content(path)
    if not isinstance(content, dict):
        raise RecordError(f"{shown(path)} is not the record that a stage writes: {RESTORE}")
    lost = [name for name in names if name not in content]
    if lost:
        raise RecordError(f"{shown(path)} does not say {lost[0]!r}, which a stage writes there: {RESTORE}")
    return content


def read_list(path: Path, *names: str) -> list[dict[str, Any]]:
    """Return a list of records, each of which holds these names at least. Raises RecordError."""
    content = _content(path)
    if not isinstance(content, list) or not all(isinstance(one, dict) and set(names) <= one.keys() for one in content):
        raise RecordError(f"{shown(path)} is not the list of records that a stage writes: {RESTORE}")
    return content


def shown(path: Path) -> str:
    """A path as a person writes it: from the current folder on, where it lies there."""
    here = Path(os.path.abspath(path))
    return here.relative_to(Path.cwd()).as_posix() if here.is_relative_to(Path.cwd()) else str(path)


def as_written(value: Any) -> str:
    """A value as params.yaml holds it: `null`, `true`, `[0, 1]`; words as they are."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{shown(path)} is missing: {PULL}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested without end
        raise RecordError(f"{shown(path)} is no JSON ({' '.join(str(error).split())}): {RESTORE}") from error
