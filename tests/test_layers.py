"""Imports run one way. The table says who may import what of ours, and which libraries belong to one place."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "nas.architecture": [],
    "nas.atomic": [],
    "nas.load": [],
    "nas.components": ["nas.load"],
    "nas.trial": ["nas.architecture"],
    "nas.objective": ["nas.trial"],
    "nas.pareto": ["nas.trial"],
    "nas.front_measures": ["nas.trial", "nas.pareto"],
    "nas.checkpoint": [],
    "nas.ancestry": ["nas.trial"],
    "nas.failures": ["nas.search", "nas.trial"],
    "nas.trial_record": ["nas.architecture", "nas.trial"],
    "nas.journal_lines": ["nas.trial", "nas.trial_record"],
    "nas.journal": ["nas.trial", "nas.trial_record", "nas.journal_lines", "nas.checkpoint"],
    "nas.finalists": ["nas.trial", "nas.objective", "nas.pareto", "nas.front_measures", "nas.evaluators.base"],
    "nas.rerank": ["nas.trial", "nas.objective", "nas.pareto", "nas.finalists"],
    "nas.search": ["nas.components", "nas.journal", "nas.trial", "nas.objective", "nas.strategies.base", "nas.evaluators.base"],
    "nas.warm_start": ["nas.architecture", "nas.trial", "nas.pareto", "nas.strategies.base"],
    "nas.paired": [],
    "nas.process_start": [],
    "nas.fork_server": ["nas.process_start"],
    "nas.processes": ["nas.fork_server", "nas.process_start"],
    "nas.forked": ["nas.process_start"],
    "nas.engines": [
        "nas.components",
        "nas.engines",
        "nas.evaluators.base",
        "nas.fork_server",
        "nas.process_start",
        "nas.processes",
        "nas.trial",
    ],
    "nas.workers": [
        *("nas.architecture", "nas.trial", "nas.evaluators.base", "nas.evaluators.wrapper", "nas.processes", "nas.training.loop"),
        *("nas.engines.base", "nas.engines.local"),
    ],
    "nas.file_metrics": ["export.figures"],
    "nas.measured": [
        *("nas.architecture", "nas.trial", "nas.evaluators.base", "nas.evaluators.wrapper", "nas.processes", "nas.file_metrics", "export"),
    ],
    "nas.preflight": ["nas.architecture", "nas.evaluators.base", "nas.processes", "export"],
    "nas.optuna_study": ["nas.architecture", "nas.trial"],
    "nas.strategies": [
        "nas.architecture",
        "nas.trial",
        "nas.pareto",
        "nas.components",
        "nas.strategies.base",
        "nas.strategies.logits",
        "nas.strategies.policies",
        "nas.optuna_study",
    ],
    "nas.strategies.predictor": ["nas.architecture", "nas.trial", "nas.pareto", "nas.strategies.base", "nas.strategies.gaussian"],
    "nas.strategies.hyperband": ["nas.architecture", "nas.trial", "nas.components", "nas.strategies.base", "nas.strategies.halving"],
    "nas.data": ["nas.data"],
    "nas.tasks": ["nas.data.dataset", "nas.tasks.base", "nas.networks.images"],
    "nas.networks": ["nas.architecture", "nas.networks", "nas.spaces.graph"],
    "nas.spaces": [
        "nas.architecture",
        "nas.tasks.base",
        "nas.spaces.base",
        "nas.spaces.graph",
        "nas.spaces.parts",
        "nas.networks",
    ],
    "nas.training": ["nas.tasks.base", "nas.training", "nas.checkpoint", "nas.trial"],
    "nas.evaluators": [
        *("nas.architecture", "nas.trial", "nas.spaces.base", "nas.tasks.base", "nas.training"),
        *("nas.data.dataset", "nas.evaluators.base", "nas.evaluators.structure", "nas.evaluators.wrapper", "nas.checkpoint", "export"),
    ],
    "nas.testing": ["nas", "export"],
    "export": ["export"],
    "flows.report": ["flows", "nas.ancestry", "nas.training.comparison", "nas.trial"],
    "flows": ["flows", "nas", "export"],
}
"""What the files of a room may import of ours. Every room of nas may import nas.atomic."""

OWNED = {
    "prefect": [
        *("flows.pipeline", "flows.scheduled", "flows.flow_runs", "flows.artifacts", "flows.notices", "flows.server_setup"),
        *("flows.launch", "flows.serve"),
    ],
    "dvc": ["flows"],
    "ruamel": ["flows"],
    "yaml": ["flows"],
    "typer": ["flows"],
    "rich": ["flows"],
    "pytest": ["nas.testing"],
    "distributed": ["nas.engines.dask_cluster", "nas.engines.dask_node"],
    "ray": ["nas.engines.ray_driver"],
    "fastapi": ["export.serving"],
    "starlette": ["export.serving"],
    "uvicorn": ["export.serving"],
    "orjson": ["export.serving"],
    "prometheus_client": ["export.serving"],
}
"""Libraries that only these rooms or files may import."""

SETTINGS = (
    *("nas.spaces", "nas.tasks", "nas.strategies", "nas.engines", "nas.data", "nas.checkpoint", "nas.training.recipe"),
    *("nas.training.limits", "nas.training.proxy_names", "nas.training.unfinished", "nas.evaluators.base", "nas.evaluators.proxy"),
    *("nas.evaluators.scratch", "nas.evaluators.shared", "nas.evaluators.table", "nas.evaluators.wrapper", "flows.settings"),
    *("flows.searches", "flows.elsewhere", "flows.commands", "flows.report", "flows.stages.prepare", "flows.stages.report"),
)
"""What settings are read with, and what commands and stages are made of that compute nothing with tensors."""
LAZY = {
    "dvc": ["flows"],
    "prefect": ["flows.launch", "flows.serve"],
    **{library: list(SETTINGS) for library in ("torch", "onnxruntime", "sklearn", "scipy")},
}
"""Libraries that these may import inside functions only, or to name types, because they take seconds to import."""


def files(root: Path = ROOT) -> Iterator[tuple[str, Path]]:
    """All modules of ours with their dotted names."""
    for package in ("nas", "flows", "export"):
        for path in sorted((root / package).rglob("*.py")):
            yield ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"), path


def imports(name: str, tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """The full names that a module imports, and whether at its top. `from a import b` imports a.b, which may be a module."""
    lazy = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    lazy |= {id(node) for block in ast.walk(tree) if _names_types(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        top = id(node) not in lazy
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively: write the full name"
            yield from ((f"{node.module}.{alias.name}", top) for alias in node.names)


def _names_types(block: ast.AST) -> bool:
    return isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"


def within(name: str, rooms: Iterable[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def violations(name: str, source: str) -> list[str]:
    """What a module imports that it may not."""
    room = max((room for room in ALLOWED if within(name, [room])), key=len, default=None)
    found = []
    for imported, top in imports(name, ast.parse(source)):
        library = imported.split(".")[0]
        if library in ("nas", "flows", "export"):
            allowed = ALLOWED.get(room or "", []) + (["nas.atomic"] if name.startswith("nas.") else [])
            if not within(imported, allowed):
                found.append(f"{name} may not import {imported}")
        elif library in OWNED and not within(name, OWNED[library]):
            found.append(f"{name} may not import {library}: only {', '.join(OWNED[library])} may")
        elif top and within(name, LAZY.get(library, [])):
            found.append(f"{name} may import {library} only inside a function")
    return found


def test_every_module_keeps_to_the_table() -> None:
    modules = list(files())
    assert len(modules) > 40
    assert [problem for name, path in modules for problem in violations(name, path.read_text())] == []


def test_only_tests_import_what_is_for_tests() -> None:
    for name, path in files():
        found = [imported for imported, _ in imports(name, ast.parse(path.read_text())) if within(imported, ["nas.testing"])]
        assert within(name, ["nas.testing"]) or found == [], f"{name} imports {found}"


def test_every_module_has_a_room() -> None:
    packages = {"nas", "nas.data"}
    assert [name for name, _ in files() if name not in packages and not within(name, ALLOWED)] == []
    assert [
        room for room in ALLOWED if not (ROOT / room.replace(".", "/")).exists() and not (ROOT / f"{room.replace('.', '/')}.py").exists()
    ] == []


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("nas.architecture", "from nas.trial import Trial", "nas.architecture may not import nas.trial.Trial"),
        (
            "nas.strategies.new",
            "from nas.evaluators.base import Evaluator",
            "nas.strategies.new may not import nas.evaluators.base.Evaluator",
        ),
        ("nas.strategies.new", "import nas.search", "nas.strategies.new may not import nas.search"),
        ("nas.strategies.new", "from nas.strategies.evolution import Evolution", "may not import nas.strategies.evolution.Evolution"),
        ("nas.spaces.new", "def f():\n    from nas import data", "nas.spaces.new may not import nas.data"),
        ("export.check", "if True:\n    from nas import atomic", "export.check may not import nas.atomic"),
        ("nas.trial", "import prefect.flows", "nas.trial may not import prefect"),
        ("nas.data.sources.new", "from ruamel.yaml import YAML", "nas.data.sources.new may not import ruamel"),
        ("flows.stages.search", "from prefect import flow", "flows.stages.search may not import prefect"),
        ("flows.tracking", "import dvc.repo", "flows.tracking may import dvc only inside a function"),
        ("nas.spaces.new", "from torch import nn", "nas.spaces.new may import torch only inside a function"),
        ("nas.networks.new", "from nas.spaces.base import Options", "nas.networks.new may not import nas.spaces.base.Options"),
        ("nas.search", "from flows import console", "nas.search may not import flows.console"),
        ("nas.search", "import pytest", "nas.search may not import pytest: only nas.testing may"),
        (
            "nas.strategies.new",
            "from nas.testing.searches import CHOICES",
            "nas.strategies.new may not import nas.testing.searches.CHOICES",
        ),
    ],
)
def test_a_violation_is_found(name: str, source: str, problem: str) -> None:
    found = violations(name, source)
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("flows.tracking", "def f():\n    import dvc.repo"),
        ("flows.pipeline", "from prefect import flow"),
        ("nas.journal", "from nas import atomic\nfrom nas.trial import Trial\nimport torch"),
        ("nas.strategies.new", "from nas.strategies.base import Strategy"),
        ("nas.spaces.new", "if TYPE_CHECKING:\n    from torch import nn\ndef f():\n    from nas.networks.parts import Residual"),
        ("nas.networks.new", "from torch import nn\nfrom nas.networks.parts import Residual"),
        ("nas.data.sources.new", "from nas.data.errors import DataError"),
    ],
)
def test_what_is_allowed_is_not_found(name: str, source: str) -> None:
    assert violations(name, source) == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("flows.cli", "prefect dvc torch fastapi uvicorn onnxruntime numpy"),
        ("flows.stages.prepare", "torch sklearn scipy matplotlib pandas prefect dvc onnxruntime onnx"),
        ("flows.stages.report", "torch sklearn scipy matplotlib pandas prefect dvc onnxruntime"),
        ("flows.pipeline", "torch sklearn scipy matplotlib pandas onnxruntime onnx dvc"),
        ("flows.why.tell", "torch sklearn scipy matplotlib pandas onnxruntime onnx dvc prefect"),
        ("nas.tasks.image_classification", "torch torchmetrics sklearn scipy matplotlib pandas prefect dvc"),
        ("nas.load", "torch prefect dvc"),
        ("nas.strategies.evolution", "torch prefect dvc"),
        ("nas.strategies.predictor", "torch sklearn scipy prefect dvc"),
        ("nas.strategies.tpe", "torch optuna prefect dvc"),
        ("nas.journal", "torch prefect dvc ruamel"),
        ("nas.search", "torch prefect dvc ruamel"),
        ("export.predict", "torch nas flows onnx"),
        ("export.serving.server", "torch nas flows onnx prefect"),
        ("export.serving.processes", "torch nas flows onnx onnxruntime numpy fastapi uvicorn prefect"),
    ],
)
def test_what_is_slow_to_import_is_imported_when_needed(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({unwanted.split()!r}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert run.stdout.strip() == ""


def test_settings_are_read_without_what_is_slow_to_import() -> None:
    """Those of the project, of every example, and every entry of every room that settings name."""
    code = (
        "import sys, tempfile, pathlib\n"
        "from flows import settings\n"
        "from nas import load\n"
        "for room in ('spaces', 'strategies', 'evaluators', 'tasks', 'data.sources', 'engines'):\n"
        "    assert load.names(room)\n"
        "    for name in load.names(room): load.load(room, name)\n"
        "root = pathlib.Path(tempfile.mkdtemp())\n"
        "(root / settings.FILE).write_text(pathlib.Path(settings.FILE).read_text())\n"
        "examples = sorted(pathlib.Path('examples').glob('*.yaml'))\n"
        "for example in [None, *examples]: settings.read(root, example=example)\n"
        "print(len(examples), *sorted({'torch', 'onnxruntime', 'onnx', 'sklearn', 'scipy', 'prefect', 'dvc'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT, timeout=60)
    count, *slow = run.stdout.split()
    assert int(count) >= 8
    assert slow == []
