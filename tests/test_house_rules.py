"""The house rules that a machine can hold: sizes, parameters, exceptions, docstrings."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUNCTION_LINES, FILE_LINES, PARAMETERS = 40, 300, 6

Function = ast.FunctionDef | ast.AsyncFunctionDef


def problems(source: str) -> list[str]:
    """Every rule that a file breaks, with its line."""
    tree = ast.parse(source)
    found = [f"1: {len(source.splitlines())} lines, at most {FILE_LINES}"] if len(source.splitlines()) > FILE_LINES else []
    for node in ast.walk(tree):
        if isinstance(node, Function):
            found += _of_function(node)
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{node.lineno}: bare except")
    found += [f"{line}: {name} has no docstring" for line, name in _silent(tree)]
    return found


def _of_function(node: Function) -> Iterator[str]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > FUNCTION_LINES:
        yield f"{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES}"
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    count = len([name for name in names if name not in ("self", "cls")])
    if count > PARAMETERS:
        yield f"{node.lineno}: {node.name} has {count} parameters, at most {PARAMETERS}"


def _silent(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What is public and says nothing: the module, its classes and functions, and their methods but the special ones."""
    if tree.body and not ast.get_docstring(tree):
        yield 1, "the module"
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.lineno, node.name
            if isinstance(node, ast.ClassDef):
                yield from _silent_methods(node)


def _silent_methods(node: ast.ClassDef) -> Iterator[tuple[int, str]]:
    for method in node.body:
        if isinstance(method, Function) and not method.name.startswith("_") and not ast.get_docstring(method):
            yield method.lineno, f"{node.name}.{method.name}"


@pytest.mark.parametrize("package", ["nas", "flows", "export"])
def test_every_file_keeps_the_rules(package: str) -> None:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert len(paths) > 5
    assert [f"{path.relative_to(ROOT)}:{problem}" for path in paths for problem in problems(path.read_text())] == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x = 1", "1: the module has no docstring"),
        ('"""M."""\ndef f(a, b, c, d, e, *, f, g):\n    """F."""', "2: f has 7 parameters, at most 6"),
        ('"""M."""\ndef f():\n    """F."""\n' + "    x = 1\n" * 39, "2: f has 41 lines, at most 40"),
        ('"""M."""\n' + "x = 1\n" * 300, "1: 301 lines, at most 300"),
        ('"""M."""\ntry:\n    x = 1\nexcept:\n    x = 2', "4: bare except"),
        ('"""M."""\nclass C:\n    """C."""\n    def f(self):\n        return 1', "4: C.f has no docstring"),
        ('"""M."""\nclass C:\n    x = 1', "2: C has no docstring"),
        ('"""M."""\nasync def f():\n    return 1', "2: f has no docstring"),
    ],
)
def test_a_broken_rule_is_found(source: str, problem: str) -> None:
    assert problems(source) == [problem]


def test_what_is_private_may_be_silent() -> None:
    assert problems('"""M."""\ndef _f(a, b, c, d, e, f):\n    return 1\nclass _C:\n    def f(self):\n        return 1') == []
