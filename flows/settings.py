"""params.yaml as validated settings: the whole file is checked before anything runs.

A wrong key is answered with the nearest one, a wrong value with its path, the value and the rule.
"""

import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nas import atomic, load
from nas.data.prepare import Splits
from nas.data.sources.base import Source
from nas.evaluators.base import Evaluator
from nas.objective import Objective
from nas.spaces.base import SearchSpace
from nas.strategies.base import Strategy
from nas.tasks.base import Task
from nas.training.recipe import Recipe

FILE = "params.yaml"
SCHEMA_FILE = "params.schema.json"
_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SettingsError(ValueError):
    """What is wrong with params.yaml, one line per mistake."""


class _Component:
    """Marks a field that holds an entry of a room, chosen by `name`; the other keys are that entry's settings."""

    def __init__(self, room: str) -> None:
        self.room = room

    def validate(self, value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise PydanticCustomError(
                "component", "give a mapping with a 'name', one of {known}", {"known": ", ".join(load.names(self.room))}
            )
        try:
            kind = load.load(self.room, value["name"])
        except ValueError as error:
            raise PydanticCustomError("component_name", "{reason}", {"reason": str(error)}) from error
        try:
            return kind.model_validate({key: item for key, item in value.items() if key != "name"})
        except ValidationError as error:
            raise PydanticCustomError("component_settings", "", {"lines": _lines(error, kind)}) from error


def describe(component: BaseModel) -> dict[str, Any]:
    """Return a component as params.yaml would hold it: its name and all of its settings."""
    module, kind = type(component).__module__, type(component).__name__
    name = module.rsplit(".", 1)[1] if module.startswith("nas.") else f"{module}:{kind}"
    return {"name": name, **component.model_dump(mode="json")}


def _component(room: str) -> tuple[Any, ...]:
    placeholder = WithJsonSchema({"$room": room})
    return PlainValidator(_Component(room).validate), PlainSerializer(describe, return_type=dict[str, Any]), placeholder


def _once(seeds: list[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise ValueError("give each once, since equal seeds give equal weights")
    return seeds


class Prepare(BaseModel):
    """From your files to one prepared dataset."""

    model_config = _STRICT

    task: Annotated[Task, *_component("tasks")]
    """What is to be learned."""
    source: Annotated[Source, *_component("data.sources")]
    """Where the data come from."""
    splits: Splits = Splits()
    """How the examples are divided."""


class Search(BaseModel):
    """The search for an architecture."""

    model_config = _STRICT

    seed: int = Field(0, ge=0)
    """The only source of randomness of the search."""
    trials: int = Field(24, ge=1)
    """Architectures to evaluate; more of them later continue the same search."""
    workers: int = Field(1, ge=1)
    """Processes that evaluate side by side, each with one thread; part of what determines the result."""
    finalists: int = Field(3, ge=1)
    """How many of the best by `select` are compared on `confirm` to choose the winner."""
    space: Annotated[SearchSpace, *_component("spaces")]
    """The networks to search among."""
    strategy: Annotated[Strategy, *_component("strategies")]
    """How the next architecture is proposed."""
    evaluator: Annotated[Evaluator, *_component("evaluators")]
    """How a proposal is judged."""
    objective: Objective = Objective()
    """What makes one architecture better than another."""


class Train(BaseModel):
    """Full training of the winner."""

    model_config = _STRICT

    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_once)] = [0, 1, 2]
    """One training each; their spread is reported, the best on `confirm` ships."""
    workers: int = Field(1, ge=1)
    """Trainings side by side, each with one thread; does not change the result."""
    epochs: int = Field(40, ge=1)
    """Passes over the training examples."""
    use_confirm: bool = False
    """Train on `confirm` too; then the last weights of the first seed ship, since nothing is left to choose by."""
    recipe: Recipe = Recipe()
    """How the winner is trained."""
    device: str = "auto"
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
        lines = [f"search.objective.{key}: no metric is named {name!r}; {_near(name, known)}" for key, name in wrong]
        if lines:
            raise PydanticCustomError("component_settings", "", {"lines": lines})
        return self


def read(root: Path, overrides: Sequence[str] = ()) -> Settings:
    """Return the validated settings of a project; `overrides` are `section.key=value`, as YAML, and are written to the file.

    Raises SettingsError, with every mistake on a line of its own; the file is then as it was.
    """
    path, yaml = root / FILE, YAML()
    try:
        document = yaml.load(path.read_text())
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist: run the command in the project's folder, or copy {FILE} there") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{FILE} is not valid YAML: {' '.join(str(error).split())}") from error
    for override in overrides:
        _override(document, override)
    settings = parse(document)
    if overrides:
        atomic.write(path, lambda file: yaml.dump(document, file))
    return settings


def parse(document: Any) -> Settings:
    """Validate settings that were read already. Raises SettingsError with every mistake on a line of its own."""
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{FILE}: {line}" for line in _lines(error, Settings))) from error


def _override(document: Any, override: str) -> None:
    path, separator, text = override.partition("=")
    *parents, key = path.strip().split(".")
    if not separator or not parents or not all([*parents, key]):
        raise SettingsError(f"--set {override!r} is not an override: write section.key=value, for example search.trials=50")
    section = document
    for parent in parents:
        section = section.get(parent) if isinstance(section, Mapping) else None
        if not isinstance(section, dict):
            raise SettingsError(f"--set {override!r}: {FILE} has no section {parent!r} to set {key!r} in; {_near(parent, list(document))}")
    try:
        section[key] = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise SettingsError(f"--set {override!r}: the value is not valid YAML") from error


def _lines(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per mistake: path, value, rule."""
    problems = error.errors()
    lines: list[str] = []
    for problem in problems:
        # A list is also called too short when its items were refused, which says nothing new.
        if problem["type"] != "too_short" or not any(_inside(other["loc"], problem["loc"]) for other in problems):
            lines += _sentences(problem, model)
    return lines


def _inside(path: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _sentences(problem: ErrorDetails, model: type[BaseModel]) -> list[str]:
    path, kind, context = ".".join(str(part) for part in problem["loc"]), problem["type"], problem.get("ctx", {})
    if kind == "component_settings":
        return [f"{path}.{line}" if path else line for line in context["lines"]]
    if kind == "extra_forbidden":
        keys = list(_model_at(model, problem["loc"][:-1]).model_fields)
        return [f"{path} is not a setting: {_near(str(problem['loc'][-1]), keys)}"]
    if kind == "missing":
        return [f"{path} is missing: add it"]
    rule = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "too_short":
        rule = f"give at least {context['min_length']}"
    return [f"{path or 'the file'} is {json.dumps(problem['input'], default=str)}: {rule}"]


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"


def _model_at(model: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The model that a path of keys leads to, below `model`."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None:
            annotations = [field.annotation, *typing.get_args(field.annotation)]
            model = next((kind for kind in annotations if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model


def schema() -> dict[str, Any]:
    """Return the JSON Schema of params.yaml, with every entry of every room."""
    root = Settings.model_json_schema()
    definitions: dict[str, Any] = root["$defs"]

    def expand(node: Any) -> Any:
        if isinstance(node, list):
            return [expand(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$room" in node:
            rest = {key: value for key, value in node.items() if key != "$room"}
            entries = [_entry(node["$room"], name, definitions) for name in load.names(node["$room"])]
            bare = [entry["properties"]["name"]["const"] for entry in entries if entry["required"] == ["name"]]
            return {**rest, "oneOf": [{"enum": bare}, *entries]}
        return {key: expand(value) for key, value in node.items()}

    for name in list(definitions):
        definitions[name] = expand(definitions[name])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": dict(sorted(definitions.items()))}


def _entry(room: str, name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = load.load(room, name).model_json_schema()
    definitions.update(entry.pop("$defs", {}))
    properties = {"name": {"const": name}, **entry.get("properties", {})}
    entry |= {"properties": properties, "required": ["name", *entry.get("required", [])]}
    return entry


def write_schema(root: Path) -> Path:
    """Write the JSON Schema beside params.yaml and return its path."""
    path = root / SCHEMA_FILE
    atomic.write_json(path, schema())
    return path
