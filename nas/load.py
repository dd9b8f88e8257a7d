"""From a name to its class. The folder is the registry: a file in a room is an entry, and its class is the file's name in CamelCase."""

import difflib
import importlib
import pkgutil
from typing import Any

_HELPERS = {"base", "supernet"}


def names(room: str) -> list[str]:
    """Return the entries of a room of nas, such as `strategies`, in alphabetical order."""
    package = importlib.import_module(f"nas.{room}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in _HELPERS)


def load(room: str, name: str) -> type[Any]:
    """Return the class of an entry, or of `package.module:Class` for one that lives elsewhere.

    Raises ValueError when there is none of that name, with the nearest name there is.
    """
    if ":" in name:
        module_name, class_name = name.split(":", 1)
        try:
            return _class(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{name!r} cannot be loaded ({error}): write package.module:Class of something that can be imported"
            ) from error
    known = names(room)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"{name!r} is not one of nas/{room}: {hint}")
    module = importlib.import_module(f"nas.{room}.{name}")
    return _class(module, "".join(part.capitalize() for part in name.split("_")))


def _class(module: Any, class_name: str) -> type[Any]:
    found: type[Any] = getattr(module, class_name)
    return found
