"""The JSON Schema of params.yaml, with which editors complete and check it."""

from pathlib import Path
from typing import Any

from flows.settings import Settings
from nas import atomic, load

FILE = "params.schema.json"


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
    path = root / FILE
    atomic.write_json(path, schema())
    return path
