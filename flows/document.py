"""params.yaml as a document: read with its comments, edited by overrides and by the sections of another file, and who said what in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from nas.components import near

FILE = "params.yaml"
_LEVELS = 30
"""How deep settings may nest: more than twice what any needs."""
_NOT_YAML = (YAMLError, ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError, NotImplementedError)
"""What ruamel.yaml raises on text that is no YAML, and on tags such as `!!int x`."""


class SettingsError(ValueError):
    """What is wrong with params.yaml, one line per mistake."""


@final
class _Representer(RoundTripRepresenter):
    """Writes nothing as `null`, as params.yaml does, where ruamel.yaml would leave the value out."""

    def represent_none(self, data: None) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)


@final
class Document:
    """The content of a settings file, and where its parts come from. `known`: the names of the sections there may be."""

    def __init__(self, path: Path, known: Sequence[str]) -> None:
        """Read a file. Raises SettingsError when there is none, or it is no YAML."""
        self._yaml = _yaml()
        self._known = known
        self._origins: list[tuple[str, str]] = []
        self.content = _load(self._yaml, path)

    def take_over(self, path: Path) -> None:
        """Replace sections by those of another file, with their comments. Raises SettingsError when it holds anything else."""
        example = _load(self._yaml, path)
        if not isinstance(example, dict) or not isinstance(self.content, dict) or not example:
            raise SettingsError(f"{path.name} holds no settings: write sections such as `search:`, as in {FILE}")
        for section, content in example.items():
            if section not in self._known:
                raise SettingsError(f"{path.name}: {section} is no section of settings: {near(str(section), self._known)}")
            self.content[section] = content
            self._origins.append((section, path.name))

    def override(self, override: str) -> None:
        """Carry out `section.key=value`; a list or mapping in one line stays in one line. Raises SettingsError."""
        path, separator, text = override.partition("=")
        *parents, key = path.strip().split(".")
        if not separator or not parents or not all([*parents, key]):
            raise SettingsError(f"--set {override!r} is not an override: write section.key=value, for example search.trials=50")
        section = self.content
        for parent in parents:
            section = _entry(section, parent)
            if not isinstance(section, dict | list):  # the file may be anything but a mapping
                raise SettingsError(f"--set {override!r}: {FILE} has no section {parent!r} to set {key!r} in; {near(parent, self._known)}")
        if isinstance(section, list):
            place = ".".join(parents)
            raise SettingsError(f"--set {override!r}: {place} is a list: write {place}.0.{key} for its first entry")
        try:
            section[key] = _in_style_of(section.get(key), YAML(typ="safe").load(text))
        except _NOT_YAML as error:
            raise SettingsError(f"--set {override!r}: the value is not valid YAML") from error
        self._origins.append((path.strip(), f"--set {override}"))

    def said(self, mistake: str) -> str:
        """A sentence that begins with a setting, behind whoever gave the setting its value."""
        whose = (origin for place, origin in reversed(self._origins) if _is_inside(mistake.split(" ", 1)[0], place))
        return f"{next(whose, FILE)}: {mistake}"

    def dump(self, file: Any) -> None:
        """Write the document, with its comments."""
        self._yaml.dump(self.content, file)


def check_shape(content: Any, levels: int = _LEVELS) -> None:
    """Raise SettingsError where no path of words leads to a value: YAML can name a value by a list, and hold it in itself."""
    if levels == 0:
        raise SettingsError(f"{FILE} nests more than {_LEVELS} levels, or an anchor (&) holds itself: write it flat")
    if isinstance(content, Mapping):
        for key, value in content.items():
            if not isinstance(key, str | int | float | None):
                raise SettingsError(f"{FILE} names a setting by {str(key)!r}: names are words")
            check_shape(value, levels - 1)
    elif isinstance(content, list | tuple | set):
        for value in content:
            check_shape(value, levels - 1)


def _load(yaml: YAML, path: Path) -> Any:
    try:
        return yaml.load(path.read_text())
    except FileNotFoundError:
        cure = f"run the command in the project's folder, or copy {FILE} there" if path.name == FILE else "name a file with settings"
        raise SettingsError(f"{path} does not exist: {cure}") from None
    except _NOT_YAML as error:
        raise SettingsError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from error


def _yaml() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = 4096  # or long lines would be folded that nobody edited
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _entry(section: Any, name: str) -> Any:
    if isinstance(section, list):
        return section[int(name)] if name.isdigit() and int(name) < len(section) else None
    return section.get(name) if isinstance(section, Mapping) else None


def _in_style_of(before: Any, value: Any) -> Any:
    """A new value, in one line where the old one was a list or a mapping in one line."""
    if not isinstance(before, CommentedSeq | CommentedMap) or not before.fa.flow_style() or not isinstance(value, list | dict):
        return value
    kept = CommentedSeq(value) if isinstance(value, list) else CommentedMap(value)
    kept.fa.set_flow_style()
    return kept


def _is_inside(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}.")
