"""A server of several processes answers as one does, spreads its connections, outlives its processes, and leaves none behind."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
from children import until
from served import IMAGES, images
from serving_process import serving

from export import files
from export.serving import processes
from export.serving.errors import ServingError
from export.serving.limits import Limits
from export.serving.listening import Place
from export.serving.model import Model
from export.serving.processes import serve_together

COUNT = 2
BURST = 16
INFER = "/v2/models/model/infer"
REQUEST = json.dumps(images(IMAGES[:1], outputs=[{"name": "logits"}]))


class Server(NamedTuple):
    """A server that runs. port: where it listens."""

    process: "subprocess.Popen[str]"
    port: int

    def members(self) -> list[psutil.Process]:
        """The processes that answer."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children()
        return found

    def connections(self) -> list[int]:
        """How many connections each of them has."""
        return [sum(1 for each in member.net_connections() if each.laddr.port == self.port) for member in self.members()]

    def get(self, path: str) -> httpx.Response:
        """The answer on a connection of its own."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=60)

    def number(self, name: str) -> float:
        """One of its metrics, summed over all labels."""
        lines = [line.rsplit(" ", 1) for line in self.get("/metrics").text.splitlines()]
        return sum(float(value) for key, value in lines if key.partition("{")[0] == name)

    def ready(self) -> bool:
        """Whether all of its processes are."""
        return self.get("/v2/health/ready").status_code == 200


@contextlib.contextmanager
def started(folder: Path, *options: str) -> Iterator[Server]:
    with serving(folder, "--processes", str(COUNT), *options) as (process, address):
        port = urlsplit(address).port
        assert port is not None
        yield Server(process, port)


@pytest.fixture(scope="module")
def server(classifier_bundle: Path) -> Iterator[Server]:
    with started(classifier_bundle) as running:
        yield running


@contextlib.contextmanager
def burst(server: Server, count: int = BURST) -> Iterator[list[HTTPConnection]]:
    """Connections that are all opened before the first of them asks anything."""
    with contextlib.ExitStack() as stack:
        opened = [HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(count)]
        for connection in opened:
            connection.connect()
            stack.callback(connection.close)
        yield opened


def infer(connections: list[HTTPConnection], body: str | bytes = REQUEST) -> list[tuple[int, bytes]]:
    """Ask all at once: codes and bodies."""
    for connection in connections:
        connection.request("POST", INFER, body, {"content-type": "application/json"})
    answers = [connection.getresponse() for connection in connections]
    return [(answer.status, answer.read()) for answer in answers]


def test_a_burst_is_spread_evenly_and_answered_as_by_one_process(server: Server, classifier: Model) -> None:
    [expected, _] = classifier.run({"images": IMAGES[:1]})
    with burst(server) as connections:
        for _ in range(3):
            for code, body in infer(connections):
                assert code == 200
                assert np.allclose(json.loads(body)["outputs"][0]["data"], expected[0], atol=1e-5)
        assert server.connections() == [BURST // COUNT] * COUNT
    until(lambda: server.connections() == [0] * COUNT)
    assert server.number("nasflow_requests_total") >= 3 * BURST
    assert server.number("nasflow_inference_seconds_count") == 3 * BURST
    assert server.number("nasflow_batch_rows_sum") == 3 * BURST
    assert server.number("nasflow_queue_requests") == 0
    assert server.number("nasflow_model_info") == 1
    assert server.number("nasflow_processes") == COUNT


def test_whoever_has_fewest_gets_the_next_connection(server: Server) -> None:
    with burst(server, 6) as connections:
        assert {code for code, _ in infer(connections)} == {200}
        first = {each.raddr.port for each in server.members()[0].net_connections() if each.laddr.port == server.port}
        for connection in connections:
            if connection.sock.getsockname()[1] in first:
                connection.close()
        until(lambda: server.connections() == [0, 3])
        with burst(server, 3) as others:
            assert {code for code, _ in infer(others)} == {200}
            assert server.connections() == [3, 3]


def test_what_is_wrong_is_refused_and_nothing_dies(server: Server) -> None:
    members = server.members()
    bodies = [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b'{"inputs": 1}', b'{"inputs": [{"name": "images"}]}', REQUEST[:-9].encode()]
    for body in bodies:
        with burst(server, COUNT) as connections:
            for code, answer in infer(connections, body):
                assert code == 400
                assert list(json.loads(answer)) == ["error"]
    assert server.get("/nowhere").status_code == 404
    assert server.members() == members


def test_connections_of_a_process_that_dies_before_it_takes_them_are_another_s(server: Server) -> None:
    before, [stopped, other] = server.number("nasflow_inference_seconds_count"), server.members()
    stopped.suspend()
    with burst(server) as connections, ThreadPoolExecutor(1) as pool:
        answers = pool.submit(infer, connections)
        until(lambda: sum(server.connections()) == BURST // COUNT)  # the other half waits for the one that does not move
        stopped.kill()
        assert [code for code, _ in answers.result(60)] == [200] * BURST
        assert not server.ready()
    until(server.ready)
    assert len(server.members()) == COUNT
    assert stopped not in server.members()
    assert other in server.members()
    assert server.number("nasflow_process_deaths_total") == 1
    assert server.number("nasflow_inference_seconds_count") == before + BURST
    with burst(server) as connections:
        assert {code for code, _ in infer(connections)} == {200}
        assert server.connections() == [BURST // COUNT] * COUNT


def test_requests_under_way_are_answered_before_the_end(classifier_bundle: Path) -> None:
    with started(classifier_bundle, "--max-delay-ms", "2000") as server, burst(server, 4) as connections, ThreadPoolExecutor(1) as pool:
        members, answers = server.members(), pool.submit(infer, connections)
        until(lambda: server.number("nasflow_queue_requests") == 4)
        for member in members:
            member.terminate()  # as a service manager does with all processes of a service: only the parent heeds it
        server.process.send_signal(signal.SIGTERM)
        assert [code for code, _ in answers.result(60)] == [200] * 4
        assert server.process.wait(60) == 128 + signal.SIGTERM
        assert not any(member.is_running() for member in members)
        assert server.process.stderr is not None
        assert server.process.stderr.read() == "nasflow: stopped: what was under way has been answered\n"


def test_a_new_process_serves_the_same_model_and_nobody_outlives_a_killed_parent(classifier_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(classifier_bundle, tmp_path / "bundle"))
    with started(folder) as server:
        shutil.rmtree(folder)
        server.members()[0].kill()
        until(lambda: server.number("nasflow_process_deaths_total") == 1 and server.ready())
        assert server.number("nasflow_model_info") == 1  # two digests would be two
        members = server.members()
        assert len(members) == COUNT
        server.process.kill()
        until(lambda: not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in members))


def test_a_model_that_cannot_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "manifest.json").write_text(json.dumps({"sha256": files.digest(tmp_path / "model.onnx")}))
    with pytest.raises(ServingError, match="cannot be served: onnxruntime cannot load"):
        serve_together(tmp_path, Place(port=0), limits=Limits(), processes=1)


def test_processes_that_never_become_ready_are_given_up(
    classifier_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(processes, "SHORTEST_PAUSE", 0.001)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ServingError, match="ended 5 times in a row before it was ready, the last time with exit status 3: see what"):
        serve_together(classifier_bundle, Place(port=0), limits=Limits(), processes=2, announce=pytest.fail)
    assert signal.getsignal(signal.SIGTERM) == before
    assert caplog.messages[0] == "nasflow: a server process ended with exit status 3: another is started in 0.001 s"
