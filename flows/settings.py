"""params.yaml as validated settings: the whole file is checked before anything runs.

A wrong key is answered with the nearest one, a wrong value with its path, the value and the rule.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from flows import watched
from flows.elsewhere import Elsewhere
from flows.searches import LARGEST_SEED, STRICT, Search, Seed, merged
from nas import atomic
from nas.components import component, component_name, near, sentences
from nas.data.prepare import Splits
from nas.data.sources.base import Source
from nas.engines.base import Engine
from nas.engines.local import Local
from nas.evaluators.scratch import Scratch
from nas.tasks.base import Task
from nas.training.recipe import Recipe

FILE = "params.yaml"
_LEVELS = 30
"""How deep settings may nest: more than twice what any needs."""
_NOT_YAML = (YAMLError, ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError, NotImplementedError)
"""What ruamel.yaml raises on text that is no YAML, and on tags such as `!!int x`."""
Device = Annotated[str, *Scratch.model_fields["device"].metadata]


class SettingsError(ValueError):
    """What is wrong with params.yaml, one line per mistake."""


@final
class _Representer(RoundTripRepresenter):
    """Writes nothing as `null`, as params.yaml does, where ruamel.yaml would leave the value out."""

    def represent_none(self, data: None) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)


def _once(seeds: list[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise ValueError("give each once, since equal seeds give equal weights")
    return seeds


def _seeded(splits: Splits) -> Splits:
    if splits.seed > LARGEST_SEED:
        raise PydanticCustomError("component_settings", "", {"lines": [f"seed is {splits.seed}: should be at most {LARGEST_SEED}"]})
    return splits


class Prepare(BaseModel):
    """From your files to one prepared dataset."""

    model_config = STRICT

    task: Annotated[Task, *component("tasks")]
    """What is to be learned."""
    source: Annotated[Source, *component("data.sources")]
    """Where the data come from."""
    splits: Annotated[Splits, AfterValidator(_seeded)] = Splits()
    """How the examples are divided."""


class Train(BaseModel):
    """Full training of the winner."""

    model_config = STRICT

    trial: int | None = Field(None, ge=0)
    """Which candidate of the search to train, by its trial's number in results/search/candidates.json; null for the winner."""
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_once)] = [0, 1, 2]
    """One training each; their spread is reported, the best on `confirm` ships."""
    workers: int = Field(1, ge=1)
    """Trainings side by side, each with one thread; does not change the result."""
    epochs: int = Field(40, ge=1)
    """Passes over the training examples."""
    use_confirm: bool = False
    """Train on `confirm` too; then the last weights of the first seed ship, since nothing is left to choose by."""
    recipe: Recipe = Recipe()
    """How the winner is trained."""
    device: Device = "auto"
    """Where to train: `cpu`, `cuda`, `cuda:1`, or `auto`."""


class Deployment(BaseModel):
    """Where the model will run; latencies are measured so, on this machine."""

    model_config = STRICT

    batch_size: int = Field(1, ge=1)
    """Images of one run."""
    threads: int = Field(1, ge=1)
    """Threads of one run."""
    provider: str = Field("CPUExecutionProvider", min_length=1)
    """What executes, by onnxruntime's name."""


class Export(BaseModel):
    """The file that ships."""

    model_config = STRICT

    exporter: Literal["dynamo", "torchscript"] = "torchscript"
    """PyTorch's exporter to use; the one used is recorded in the file. `torchscript` takes a twentieth of the time, `dynamo` is newer."""
    int8: Literal["measure", "never"] = "measure"
    """Whether an int8 variant is made, scored and timed too; it ships where it is faster on this machine and loses little."""
    int8_loss: float = Field(0.005, ge=0)
    """How much of the metric that the winner was chosen by the int8 variant may lose on `confirm` and still ship."""
    measured: Elsewhere | None = None
    """What other devices measured of the candidate that is trained, as `nasflow rank --choose` writes it; a constraint on `latency_ms` is
    judged by that then, and not on this machine."""
    tolerance: float = Field(1e-4, gt=0)
    """Largest difference of logits between PyTorch and ONNX Runtime, relative to the largest logit when that is above 1."""
    web: bool = False
    """Put a page into the bundle that runs the model in a browser; fetches onnxruntime-web from the npm registry once, 33 MB."""


class Settings(BaseModel):
    """Everything a user can set: one section per stage, and what is no stage's own."""

    model_config = STRICT

    target: Deployment = Deployment()
    engine: Annotated[Engine, *component("engines")] = Local()
    """Where trials are evaluated; changes no result, so no stage runs again for it."""
    prepare: Prepare
    search: Annotated[tuple[Search, ...], BeforeValidator(merged), Field(min_length=1)]
    """The search, or a list of searches that follow each other; the last one finds the winner."""
    train: Train = Train()
    export: Export = Export()

    def files(self) -> Iterator[tuple[str, str, str]]:
        """The files and folders of the user that stages read: the stage, the setting that names the path, the path as written there."""
        yield from (("prepare", "prepare.source", path) for path in self.prepare.source.paths())
        for at, search in enumerate(self.search):
            place = f"search.{at}.evaluator" if len(self.search) > 1 else "search.evaluator"
            yield from (("search", place, path) for path in search.evaluator.paths())

    @model_validator(mode="after")
    def _searches_are_sound(self) -> Self:
        lines = [f"search.{at}.{line}" for at, search in enumerate(self.search) for line in search.mistakes(self.prepare.task)]
        lines += [
            f"search.{at}.space differs from that of the search before: searches that follow each other search one space"
            for at in range(1, len(self.search))
            if self.search[at].space != self.search[at - 1].space
        ]
        lines += [*self._unmeasured(), *self._misplaced()]
        if lines:
            raise PydanticCustomError("component_settings", "", {"lines": lines})
        return self

    def _misplaced(self) -> Iterator[str]:
        """Why the trials of a search cannot be evaluated by the engine."""
        name = component_name(self.engine)
        for at, search in enumerate(self.search):
            if wrong := self.engine.wrong_devices(search.devices):
                yield f"search.{at}.{wrong}"
            if self.engine.device is not None and "device" not in type(search.evaluator).model_fields:
                yield f"engine gives every trial a GPU, but the evaluator {component_name(search.evaluator)!r} uses none: leave them out"
        if name != component_name(Local()) and all(search.evaluator.commit_every > 1 for search in self.search):
            yield f"engine is {name}, but every search shares weights between trials, which only one process can: set it to local"

    def _unmeasured(self) -> list[str]:
        """What the gate is asked to hold, but could not measure."""
        names = [name for name in self.search[-1].objective.constraints if name.startswith("int8_")]
        if self.export.int8 != "never" or not names:
            return []
        return [f"export.int8 is never, but search.objective.constraints bounds {names[0]!r}: set it to measure, or drop the constraint"]


def read(
    root: Path,
    overrides: Sequence[str] = (),
    writing: AbstractContextManager[object] | None = None,
    example: Path | None = None,
    *,
    present: bool = False,
) -> Settings:
    """Return the validated settings of a project; `overrides` are `section.key=value`, as YAML, and are written to the file.

    The sections of `example`, another file of settings, come first and replace those of the file. `writing` is entered around the
    write; what it raises keeps the file as it was. present: whether the user's files that they name have to be there. Raises
    SettingsError, with every mistake on a line of its own; the file is then as it was, too.
    """
    path, yaml = root / FILE, _yaml()
    document = _load(yaml, path)
    if example is not None:
        _take_over(document, _load(yaml, example), example)
    for override in overrides:
        _override(document, override)
    settings = parse(document)
    absent = [path for search in settings.search for path in search.warm_start if not (root / path).exists()]
    if absent:
        raise SettingsError(
            f"{FILE}: search.warm_start names {absent[0]}, which does not exist: name the folder of a search, or leave it out"
        )
    tangled = [f"{FILE}: {place} {sentence}" for _, place, path in settings.files() for sentence in watched.tangled(root, [path])]
    if tangled:
        raise SettingsError("\n".join(tangled))
    lost = [f"{place} reads {path}" for _, place, path in settings.files() if present and not (root / path).exists()]
    if lost:
        raise SettingsError(f"{FILE}: {lost[0]}, which does not exist: put the data there, or correct the path")
    if overrides or example is not None:
        with writing or nullcontext():
            atomic.write(path, lambda file: yaml.dump(document, file))
    return settings


def parse(document: Any) -> Settings:
    """Validate settings that were read already. Raises SettingsError with every mistake on a line of its own."""
    _check_shape(document)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        lines = sentences(error, Settings)
        if not (isinstance(document, Mapping) and isinstance(document.get("search"), list)):
            lines = [re.sub(r"^search\.0\b", "search", line) for line in lines]
        raise SettingsError("\n".join(f"{FILE}: {line}" for line in lines)) from error


def _load(yaml: YAML, path: Path) -> Any:
    try:
        return yaml.load(path.read_text())
    except FileNotFoundError:
        cure = f"run the command in the project's folder, or copy {FILE} there" if path.name == FILE else "name a file with settings"
        raise SettingsError(f"{path} does not exist: {cure}") from None
    except _NOT_YAML as error:
        raise SettingsError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from error


def _check_shape(document: Any, levels: int = _LEVELS) -> None:
    """Raise SettingsError where no path of words leads to a value: YAML can name a value by a list, and hold it in itself."""
    if levels == 0:
        raise SettingsError(f"{FILE} nests more than {_LEVELS} levels, or an anchor (&) holds itself: write it flat")
    if isinstance(document, Mapping):
        for key, value in document.items():
            if not isinstance(key, str | int | float | None):
                raise SettingsError(f"{FILE} names a setting by {str(key)!r}: names are words")
            _check_shape(value, levels - 1)
    elif isinstance(document, list | tuple | set):
        for value in document:
            _check_shape(value, levels - 1)


def _take_over(document: Any, example: Any, path: Path) -> None:
    """Replace the sections of a document by those of an example, with their comments."""
    if not isinstance(example, dict) or not isinstance(document, dict) or not set(example) <= set(Settings.model_fields):
        raise SettingsError(f"{path.name} holds no settings: write sections such as `search:`, as in {FILE}")
    for section, content in example.items():
        document[section] = content


def _yaml() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = 4096  # or long lines would be folded that nobody edited
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _override(document: Any, override: str) -> None:
    path, separator, text = override.partition("=")
    *parents, key = path.strip().split(".")
    if not separator or not parents or not all([*parents, key]):
        raise SettingsError(f"--set {override!r} is not an override: write section.key=value, for example search.trials=50")
    section = document
    for parent in parents:
        section = _entry(section, parent)
        if not isinstance(section, dict | list):
            known = list(Settings.model_fields)  # the file may be anything but a mapping
            raise SettingsError(f"--set {override!r}: {FILE} has no section {parent!r} to set {key!r} in; {near(parent, known)}")
    if isinstance(section, list):
        raise SettingsError(f"--set {override!r}: {'.'.join(parents)} is a list: write {'.'.join(parents)}.0.{key} for its first entry")
    try:
        section[key] = YAML(typ="safe").load(text)
    except _NOT_YAML as error:
        raise SettingsError(f"--set {override!r}: the value is not valid YAML") from error


def _entry(section: Any, name: str) -> Any:
    if isinstance(section, list):
        return section[int(name)] if name.isdigit() and int(name) < len(section) else None
    return section.get(name) if isinstance(section, Mapping) else None
