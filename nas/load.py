"""From a name to its class. The folder is the registry: a file is an entry when it defines a final class of its own name.

The class is the file's name in CamelCase; other files of a room are its helpers.
"""

import difflib
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any


def names(room: str) -> list[str]:
    """Return the entries of a room of nas, such as `strategies`, in alphabetical order."""
    package = importlib.import_module(f"nas.{room}")
    files = (Path(place) / f"{module.name}.py" for place in package.__path__ for module in pkgutil.iter_modules([place]))
    return sorted(path.stem for path in files if path.is_file() and _is_entry(path))


def _is_entry(path: Path) -> bool:
    # Reading a file takes microseconds, importing it may take seconds. A helper may define a network of its own name.
    pattern = rf"^@final\nclass {_class_name(path.stem)}\((?!nn\.Module)"
    return re.search(pattern, path.read_text(), re.MULTILINE) is not None


def load(room: str, name: str) -> type[Any]:
    """Return the class of an entry, or of `package.module:Class` for one that lives elsewhere.

    Raises ValueError when there is none of that name, with the nearest name there is, and when it is not of the room's kind.
    """
    if ":" in name:
        module_name, class_name = name.split(":", 1)
        return _of_kind(room, name, _class(name, module_name, class_name))
    known = names(room)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"{name!r} is not one of nas/{room}: {hint}")
    return _of_kind(room, name, _class(name, f"nas.{room}.{name}", _class_name(name)))


def base(room: str) -> type[Any]:
    """Return what every entry of a room is: the abstract class of its base.py."""
    module = importlib.import_module(f"nas.{room}.base")
    found: list[type[Any]] = [kind for _, kind in inspect.getmembers(module, inspect.isabstract) if kind.__module__ == module.__name__]
    return found[0]


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _class(name: str, module: str, class_name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), class_name)
    except Exception as error:  # importing runs a module, which may raise anything at all
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name!r} cannot be loaded ({reason}): write package.module:Class of something that can be imported") from error


def _of_kind(room: str, name: str, found: Any) -> type[Any]:
    kind = base(room)
    if not isinstance(found, type) or not issubclass(found, kind) or inspect.isabstract(found):
        raise ValueError(f"{name!r} is no entry of nas/{room}: name a class that derives from {kind.__module__}.{kind.__name__}")
    return found
