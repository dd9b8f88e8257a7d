"""Entries of a room as settings: `name` picks the class, the other keys are its fields; and mistakes in settings as sentences."""

import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails, PydanticCustomError

from nas import load

_WHOLE, _QUOTE = "the file", "'"


class _Room:
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
            raise PydanticCustomError("component_settings", "", {"lines": sentences(error, kind)}) from error


def describe(component: BaseModel) -> dict[str, Any]:
    """Return a component as params.yaml would hold it: its name and all of its settings."""
    return {"name": component_name(component), **component.model_dump(mode="json")}


def component_name(component: BaseModel) -> str:
    """Return the name of a component as params.yaml would hold it."""
    module, kind = type(component).__module__, type(component).__name__
    return module.rsplit(".", 1)[1] if module.startswith("nas.") else f"{module}:{kind}"


def component(room: str) -> tuple[Any, ...]:
    """Return the annotations of a field that holds an entry of a room."""
    placeholder = WithJsonSchema({"$room": room})
    return PlainValidator(_Room(room).validate), PlainSerializer(describe, return_type=dict[str, Any]), placeholder


def restore(room: str, described: Mapping[str, Any]) -> Any:
    """Undo `describe`. Raises ValueError when the entry does not exist or refuses its settings."""
    return load.load(room, described["name"]).model_validate({key: value for key, value in described.items() if key != "name"})


def sentences(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per mistake: path, value, rule."""
    problems = error.errors()
    lines: list[str] = []
    for problem in problems:
        # A list is also called too short when its items were refused, which says nothing new.
        if problem["type"] != "too_short" or not any(_inside(other["loc"], problem["loc"]) for other in problems):
            lines += _sentence(problem, model)
    return lines


def _inside(path: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _sentence(problem: ErrorDetails, model: type[BaseModel]) -> list[str]:
    path, kind, context = ".".join(str(part) for part in problem["loc"]), problem["type"], problem.get("ctx", {})
    if kind == "component_settings":
        # What is said of a component as a whole begins with the word for the whole, which here is its path.
        return [
            f"{path}{line.removeprefix(_WHOLE)}" if path and line.startswith(_WHOLE) else f"{path}.{line}" if path else line
            for line in context["lines"]
        ]
    if kind == "extra_forbidden":
        keys = list(_model_at(model, problem["loc"][:-1]).model_fields)
        return [f"{path} is not a setting: {near(str(problem['loc'][-1]), keys)}"]
    if kind == "missing":
        return [f"{path} is missing: add it"]
    described = _description(model, problem["loc"]) if kind == "string_pattern_mismatch" else None
    told = f"write what belongs there ({described})" if described else rule(problem)
    return [f"{path or _WHOLE} is {json.dumps(problem['input'], default=str)}: {told}"]


def rule(problem: ErrorDetails) -> str:
    """Return the rule that a value breaks, in words that need no knowledge of pydantic."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind == "too_short":
        return f"give at least {context['min_length']}"
    if kind == "missing":
        return "it is missing"
    if kind == "union_tag_not_found":
        return f"it does not say its {context['discriminator'].strip(_QUOTE)}"
    if kind == "union_tag_invalid":
        return f"its {context['discriminator'].strip(_QUOTE)} is {context['tag']}, which is none of {context['expected_tags']}"
    if kind == "string_pattern_mismatch":
        return f"{problem['input']!r} has another form than belongs there"
    return problem["msg"].removeprefix("Input ")


def near(name: str, known: Sequence[str]) -> str:
    """Return a hint: the nearest known name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"


def _description(model: type[BaseModel], path: Sequence[int | str]) -> str | None:
    """What the setting that a path leads to says of itself."""
    for end in reversed(range(len(path))):
        field = _model_at(model, path[:end]).model_fields.get(str(path[end]))
        if field is not None:
            return (field.description or "").rstrip(".") or None
    return None


def _model_at(model: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The model that a path of keys leads to, below `model`."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None:
            annotations = [field.annotation, *typing.get_args(field.annotation)]
            model = next((kind for kind in annotations if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model
