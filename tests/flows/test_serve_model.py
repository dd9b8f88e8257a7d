"""`nasflow serve-model` says in one sentence why it does not start, and hands on what was typed."""

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from served import bundle, lookup
from typer.testing import CliRunner, Result

from export.serving import processes, server
from export.serving.limits import Limits
from export.serving.listening import Place
from flows.cli import app


def serve(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["serve-model", *map(str, words)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    return bundle(folder / "bundle", lookup(folder / "lookup.onnx"))


@pytest.mark.parametrize("count", ["1", "2"])
def test_another_file_than_the_manifest_s_is_refused(whole: Path, tmp_path: Path, count: str) -> None:
    changed = Path(shutil.copytree(whole, tmp_path / "changed"))
    (changed / "model.onnx").write_bytes((changed / "model.onnx").read_bytes() + b"\0")
    found = serve(changed, "--processes", count)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(f"nasflow: {changed / 'model.onnx'} is not the file in manifest.json (sha256 ")
    assert found.stderr.endswith(": copy the bundle again\n")
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("count", ["1", "2"])
def test_where_nobody_can_listen(whole: Path, count: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = serve(whole, "--port", str(port), "--processes", count)
    assert found.exit_code == 2
    assert found.stderr == f"nasflow: nobody can listen at 127.0.0.1:{port} (Address already in use): choose another --host or --port\n"
    assert serve(whole, "--host", "no.such.host.invalid", "--processes", count).exit_code == 2


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--name", "a/b"], 2, "nasflow: the model's name is 'a/b', but must be letters"),
        (["--name", "a/b", "--processes", "2"], 2, "nasflow: the model's name is 'a/b', but must be letters"),
        (["--processes", "0"], 2, "Invalid value for '--processes'"),
        (["--port", "65536"], 2, "Invalid value for '--port'"),
        (["--max-batch", "0"], 2, "Invalid value for '--max-batch'"),
        (["--max-delay-ms", "nan"], 2, "Invalid value for '--max-delay-ms'"),
    ],
)
def test_a_wrong_option(tmp_path: Path, words: list[str], code: int, sentence: str) -> None:
    found = serve(tmp_path, *words)
    assert found.exit_code == code
    assert sentence in found.stderr


def test_what_is_typed_is_what_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []
    for module, name in ((server, "serve"), (processes, "serve_together")):
        monkeypatch.setattr(module, name, lambda *place, **given: calls.append((place, given)))
    assert serve().exit_code == 0
    words = ["--host", "::1", "--port", "1", "--name", "a", "--threads", "2", "--max-batch", "3", "--max-delay-ms", "4", "--max-queue", "5"]
    assert serve(tmp_path, *words, "--max-body-mb", "6").exit_code == 0
    assert serve(tmp_path, *words, "--processes", "7").exit_code == 0
    [((folder, place), given), ((other, chosen), more), ((_, same), several)] = calls
    assert (folder, place, given["threads"], given["limits"]) == (Path("results/export"), Place(), 1, Limits(body=16_000_000))
    assert (other, chosen, more["threads"]) == (tmp_path, Place("::1", 1, "a"), 2)
    assert more["limits"] == Limits(batch=3, delay=0.004, requests=5, body=6_000_000)
    assert (same, several["processes"], several["threads"], several["limits"].requests) == (chosen, 7, 2, 5)
    assert "processes" not in more
