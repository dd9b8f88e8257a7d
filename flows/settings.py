"""params.yaml as validated settings: the whole file is checked before anything runs.

A wrong key is answered with the nearest one, a wrong value with its path, the value and the rule.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from flows import watched
from nas import atomic
from nas.components import component, near, sentences
from nas.data.prepare import Splits
from nas.data.sources.base import Source
from nas.evaluators.base import Evaluator
from nas.evaluators.scratch import Scratch
from nas.objective import Objective
from nas.spaces.base import SearchSpace
from nas.strategies.base import Strategy
from nas.tasks.base import Task
from nas.training.recipe import Recipe

FILE = "params.yaml"
_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
_LARGEST_SEED = 2**63 - 1
"""What PyTorch takes."""
Seed = Annotated[int, Field(ge=0, le=_LARGEST_SEED)]
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
    if splits.seed > _LARGEST_SEED:
        raise PydanticCustomError("component_settings", "", {"lines": [f"seed is {splits.seed}: should be at most {_LARGEST_SEED}"]})
    return splits


class Prepare(BaseModel):
    """From your files to one prepared dataset."""

    model_config = _STRICT

    task: Annotated[Task, *component("tasks")]
    """What is to be learned."""
    source: Annotated[Source, *component("data.sources")]
    """Where the data come from."""
    splits: Annotated[Splits, AfterValidator(_seeded)] = Splits()
    """How the examples are divided."""


class Search(BaseModel):
    """The search for an architecture."""

    model_config = _STRICT

    seed: Seed = 0
    """The only source of randomness of the search."""
    trials: int = Field(24, ge=1)
    """Architectures to evaluate; more of them later continue the same search."""
    workers: int = Field(1, ge=1)
    """Processes that evaluate side by side, each with one thread; part of what determines the result."""
    finalists: int = Field(3, ge=1)
    """How many of the best by `select` are compared on `confirm` to choose the winner."""
    space: Annotated[SearchSpace, *component("spaces")]
    """The networks to search among."""
    strategy: Annotated[Strategy, *component("strategies")]
    """How the next architecture is proposed."""
    evaluator: Annotated[Evaluator, *component("evaluators")]
    """How a proposal is judged."""
    objective: Objective = Objective()
    """What makes one architecture better than another."""


class Train(BaseModel):
    """Full training of the winner."""

    model_config = _STRICT

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


class Export(BaseModel):
    """The file that ships."""

    model_config = _STRICT

    exporter: Literal["dynamo", "torchscript"] = "dynamo"
    """PyTorch's exporter to use; the one used is recorded in the file."""
    tolerance: float = Field(1e-4, gt=0)
    """Largest difference of logits between PyTorch and ONNX Runtime, relative to the largest logit when that is above 1."""


class Settings(BaseModel):
    """Everything a user can set. One section per stage."""

    model_config = _STRICT

    prepare: Prepare
    search: Search
    train: Train = Train()
    export: Export = Export()

    @model_validator(mode="after")
    def _metrics_exist(self) -> Self:
        known = self.search.evaluator.metric_names(self.prepare.task.metric_names)
        objective = self.search.objective
        wrong = [("metrics", name) for name in objective.names[: len(objective.metrics)] if name not in known]
        wrong += [("constraints", name) for name in objective.constraints if name not in known]
        lines = [f"search.objective.{key}: no metric is named {name!r}; {near(name, known)}" for key, name in wrong]
        if lines:
            raise PydanticCustomError("component_settings", "", {"lines": lines})
        return self


def read(root: Path, overrides: Sequence[str] = (), writing: AbstractContextManager[object] | None = None) -> Settings:
    """Return the validated settings of a project; `overrides` are `section.key=value`, as YAML, and are written to the file.

    `writing` is entered around the write; what it raises keeps the file as it was. Raises SettingsError, with every mistake on a
    line of its own; the file is then as it was, too.
    """
    path, yaml = root / FILE, _yaml()
    try:
        document = yaml.load(path.read_text())
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist: run the command in the project's folder, or copy {FILE} there") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{FILE} is not valid YAML: {' '.join(str(error).split())}") from error
    for override in overrides:
        _override(document, override)
    settings = parse(document)
    tangled = watched.tangled(root, settings.prepare.source.paths())
    if tangled:
        raise SettingsError("\n".join(f"{FILE}: prepare.source {sentence}" for sentence in tangled))
    if overrides:
        with writing or nullcontext():
            atomic.write(path, lambda file: yaml.dump(document, file))
    return settings


def parse(document: Any) -> Settings:
    """Validate settings that were read already. Raises SettingsError with every mistake on a line of its own."""
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{FILE}: {line}" for line in sentences(error, Settings))) from error


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
        section = section.get(parent) if isinstance(section, Mapping) else None
        if not isinstance(section, dict):
            raise SettingsError(f"--set {override!r}: {FILE} has no section {parent!r} to set {key!r} in; {near(parent, list(document))}")
    try:
        section[key] = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise SettingsError(f"--set {override!r}: the value is not valid YAML") from error
