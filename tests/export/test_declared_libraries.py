"""pyproject.toml declares what the product imports, and only tests need what only tests import."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = {"flows", "nas", "export"}
PUBLISHED_AS = {"PIL": "pillow", "google": "protobuf", "sklearn": "scikit-learn", "ruamel": "ruamel.yaml", "pydantic_core": "pydantic"}
# Started as programs or loaded by others, and so imported nowhere.
STARTED = {"onnxscript", "uvloop", "httptools", "dvc-s3", "sqlalchemy"}
OPTIONAL = ("dask", "ray", "s3")
"""What is for those who have a cluster, or a remote in S3."""


# What is for tests of others' components needs what tests need.
TESTING = ROOT / "nas" / "testing"


def imported(paths: Iterable[Path]) -> set[str]:
    """Libraries that modules import, by the names they are published under."""
    modules = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    return {PUBLISHED_AS.get(module, module.replace("_", "-")) for module in modules - OURS - sys.stdlib_module_names}


def declared(lines: Iterable[str]) -> set[str]:
    """The names in a list of requirements."""
    return {re.split(r"[<>=~\[]", line)[0] for line in lines}


def test_imported_and_declared_libraries_are_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {path for room in OURS for path in (ROOT / room).rglob("*.py")}
    testing = {path for path in ours if path.is_relative_to(TESTING)}
    extras = [line for name in OPTIONAL for line in project["optional-dependencies"][name]]
    product, found = declared([*project["dependencies"], *extras]), imported(ours - testing)
    assert found - product == set()
    assert product - found - STARTED == set()
    assert imported(testing) - product - declared(project["optional-dependencies"]["test"]) == set()
