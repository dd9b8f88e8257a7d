"""The settings of one run of a deployment: a form in Prefect's pages, checked there by the schema of params.yaml.

What is left empty stays as params.yaml has it. What is filled in is written to params.yaml, as `nasflow run --set` does, because DVC
decides by that file what is up to date.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from flows import lineage

SCHEMA = Path(__file__).parents[1] / "params.schema.json"
"""Read as a file, because making it imports every room, PyTorch included, and every scheduled run would wait for that."""


TARGET = r"^(https?://[^\s/]+\S*|[a-z0-9-]+/[^\s/]+)$"
"""Who can be told how runs end: an address, or a block of Prefect as type/name."""


class _Names:
    """Gives pydantic the JSON schema of a list of the stages that dvc.yaml has."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        if (SCHEMA.parent / "dvc.yaml").exists():
            schema["items"] = {"type": "string", "enum": list(lineage.declared(SCHEMA.parent))}
        return schema


Stages = Annotated[list[str], _Names()] | None
"""Only these stages; None for all."""


class _Form:
    """Gives pydantic the JSON schema of the form."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return form(json.loads(SCHEMA.read_text())) if SCHEMA.exists() else handler(core)


Overrides = Annotated[dict[str, dict[str, Any] | None], _Form()]
"""For every section of params.yaml the keys to change; a section or a key that is null or left out stays."""


def form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of params.yaml as one of changes to it: every section and every key of one may be null, which leaves it as it is.

    Null must be the default of each: a page fills in whatever default it finds, and `false` where it finds none. Definitions are written
    out where they are used, since Prefect keeps those of its own; what may hold itself is left open there, and is checked when the run
    starts.
    """
    sections = {}
    for name, section in schema["properties"].items():
        whole = _whole(section, schema["$defs"])
        keys = {key: _nullable(key, value) for key, value in _keys(whole).items()}
        description = f"{whole.get('description', name)} Left out: as params.yaml has it."
        changed = {"title": name, "description": description, "type": "object", "properties": keys, "additionalProperties": False}
        sections[name] = _nullable(name, changed)
    described = "Settings to change, by section; they are written to params.yaml. Left out: as params.yaml has them."
    return {"title": "settings", "description": described, "type": "object", "properties": sections, "additionalProperties": False}


def overrides(changes: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """The changes as what `--set` takes, one per key; a key cannot be set to null so."""
    filled = ((section, key, value) for section, keys in changes.items() for key, value in (keys or {}).items() if value is not None)
    return [f"{section}.{key}={json.dumps(value)}" for section, key, value in filled]


def _whole(section: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A section with its definitions; of a section that may be a list as well, the form with keys."""
    first = section["anyOf"][0] if "anyOf" in section else section
    whole: dict[str, Any] = _inlined(first, definitions, ())
    return whole


def _keys(whole: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What may be filled in of a section; of one that is an entry of a room, what any entry has."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in whole.get("oneOf", [whole]):
        for key, value in entry.get("properties", {}).items():
            found.setdefault(key, []).append(value)
    return {key: values[0] if len(values) == 1 else {"anyOf": values} for key, values in found.items()}


def _inlined(node: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, definitions, inside) for item in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" not in node:
        return {key: _inlined(value, definitions, inside) for key, value in node.items()}
    name = str(node["$ref"]).rpartition("/")[2]
    rest = {key: _inlined(value, definitions, inside) for key, value in node.items() if key != "$ref"}
    return rest if name in inside else {**_inlined(definitions[name], definitions, (*inside, name)), **rest}


def _nullable(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    """A field that may be left as it is, and is unless somebody fills it in."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    bare = [{key: value for key, value in kind.items() if key != "default"} for kind in kinds]
    return {"anyOf": [*bare, {"type": "null"}], "title": name, "description": field.get("description", ""), "default": None}
