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
    search = root["properties"]["search"]
    several = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/FollowingSearch"}}
    root["properties"]["search"] = {"description": search["description"], "anyOf": [{"$ref": "#/$defs/Search"}, several]}
    definitions["FollowingSearch"] = {key: value for key, value in definitions["Search"].items() if key != "required"}

    def expand(node: Any) -> Any:
        if isinstance(node, list):
            return [expand(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$room" in node:
            room = node["$room"]
            if room not in definitions:
                definitions[room] = {}  # an entry may hold another of its room, so the definition refers to itself
                entries = [expand(_entry(room, name, definitions)) for name in load.names(room)]
                bare = [entry["properties"]["name"]["const"] for entry in entries if entry["required"] == ["name"]]
                definitions[room] = {"oneOf": [{"enum": bare}, *entries]}
            return {**{key: value for key, value in node.items() if key != "$room"}, "$ref": f"#/$defs/{room}"}
        return {key: expand(value) for key, value in node.items()}

    for name in list(definitions):
        definitions[name] = expand(definitions[name])
    root["properties"] = expand(root["properties"])  # a section may be an entry of a room itself
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
