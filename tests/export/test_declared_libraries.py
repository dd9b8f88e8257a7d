"""pyproject.toml declares what the product imports, and only tests need what only tests import."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = {"flows", "nas", "export"}
PUBLISHED_AS = {"PIL": "pillow", "sklearn": "scikit-learn", "ruamel": "ruamel.yaml", "pydantic_core": "pydantic"}
# Started as programs or loaded by others, and so imported nowhere.
STARTED = {"uvicorn", "fastapi", "onnxscript"}


def imported() -> set[str]:
    """Libraries that the product imports, by the names they are published under."""
    modules = set()
    for path in (path for room in OURS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    return {PUBLISHED_AS.get(module, module.replace("_", "-")) for module in modules - OURS - sys.stdlib_module_names}


def test_imported_and_declared_libraries_are_the_same() -> None:
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {re.split(r"[<>=~\[]", line)[0] for line in lines}
    assert imported() - declared == set()
    assert declared - imported() - STARTED == set()
