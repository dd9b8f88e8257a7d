"""What serving costs: requests per second of `nasflow serve-model`, against a bare loop over onnxruntime in one process.

    python benchmarks/serving.py --repeats 30 --clients 16

The model is a network of the space of params.yaml for the digits with fresh weights, exported and bundled as the pipeline does;
--draw picks another one. Both run it with --threads threads. The bare loop runs one image after the other. The clients are
connections that stay open, each with one request of --rows images under way, in one process of their own; that process shares the
machine with the server, and its processor time is printed. The two take turns of --seconds each. The last line is JSON: medians
over the turns, and the median of the ratio of neighbours; `images` are per second, where a request holds several.
"""

import argparse
import json
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WARM_SECONDS = 0.2


class Turn(NamedTuple):
    """What one turn measured, per second; client: processor time of the clients per request, microseconds."""

    bare: float
    served: float
    client: float


def bundle(folder: Path, draw: int, exporter: str) -> None:
    """Write the bundle of a random network into `folder`."""
    import torch

    from export.bundle import manifest_of, write_bundle
    from export.to_onnx import to_onnx
    from export.typical import with_typical_weights
    from flows import settings
    from nas.data.dataset import Dataset
    from nas.data.prepare import prepare
    from nas.data.sources.digits import Digits

    project = settings.read(ROOT)
    prepare(Digits(), project.prepare.splits, folder / "prepared", task="image_classification", root=ROOT)
    task = project.prepare.task.bind(Dataset.open(folder / "prepared", splits=("test",)).description)
    space = project.search[0].space
    architecture = space.choices(task).sample(np.random.default_rng(draw))
    torch.manual_seed(draw)
    module = task.deployable(with_typical_weights(space.build(architecture, task))).eval()
    model = folder / "exported.onnx"
    classes = {"classes": json.dumps(task.description.classes)}
    to_onnx(module, task.example(2), model, outputs=task.output_names, metadata=classes, exporter=exporter)
    write_bundle(folder, model=model, manifest=manifest_of(model))


@contextmanager
def server(folder: Path, threads: int, options: list[str]) -> Iterator[int]:
    """The command, on a free port, which is yielded when it listens."""
    command = [sys.executable, "-m", "flows.cli", "serve-model", str(folder), "--port", "0", "--threads", str(threads), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = urlsplit(process.stdout.readline().split()[-1]).port
            assert port is not None
            yield port
        finally:
            process.terminate()


def request(rows: int, shape: list[int]) -> bytes:
    """The bytes of an inference request of random images, as JSON."""
    pixels = np.random.default_rng(0).integers(0, 256, (rows, *shape)).ravel().tolist()
    tensor = {"name": "images", "shape": [rows, *shape], "datatype": "UINT8", "data": pixels}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = (
        f"POST /v2/models/model/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def length_of(received: bytes) -> int:
    """How long the whole response is; 0 while its head is not there. Raises RuntimeError when it is none of success."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the server answered {received[:500]!r}")
    start = received.index(b"content-length: ") + len(b"content-length: ")
    return end + 4 + int(received[start : received.index(b"\r", start)])


def clients(port: int, count: int, content: bytes, seconds: float) -> dict[str, float]:
    """Keep `count` requests under way, each on a connection of its own: responses per second, and the processor time of one."""
    selector = selectors.DefaultSelector()
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    parts = dict.fromkeys(connections, b"")
    for connection in connections:
        selector.register(connection, selectors.EVENT_READ)
        connection.sendall(content)
    begin, used, answered = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - begin) < seconds:
        for key, _ in selector.select(timeout=1):
            connection: Any = key.fileobj
            parts[connection] += connection.recv(65536)
            if len(parts[connection]) == length_of(parts[connection]):
                parts[connection], answered = b"", answered + 1
                connection.sendall(content)
    for connection in connections:
        connection.close()
    return {"per_second": answered / passed, "microseconds": 1e6 * (time.process_time() - used) / max(answered, 1)}


def clients_apart(port: int, count: int, rows: int, shape: list[int], seconds: float) -> dict[str, float]:
    """The same in another process."""
    words = ["--client", str(port), "--clients", str(count), "--rows", str(rows), "--shape", *map(str, shape), "--seconds", str(seconds)]
    run = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def bare(session: Any, shape: list[int], seconds: float) -> float:
    """Runs per second of a loop over single images."""
    feed = {session.get_inputs()[0].name: np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)}
    for duration in (WARM_SECONDS, seconds):
        begin, runs = time.perf_counter(), 0
        while (passed := time.perf_counter() - begin) < duration:
            session.run(None, feed)
            runs += 1
    return runs / passed


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both, taking turns."""
    from export.machine import Target
    from export.session import open_session

    with tempfile.TemporaryDirectory() as name:
        bundle(Path(name), options.draw, options.exporter)
        session = open_session(Path(name) / "model.onnx", Target(threads=options.threads))
        shape = list(session.get_inputs()[0].shape[1:])
        turns = []
        with server(Path(name), options.threads, options.serve) as port:
            clients_apart(port, options.clients, options.rows, shape, WARM_SECONDS)
            for number in range(options.repeats):
                alone = bare(session, shape, options.seconds)
                found = clients_apart(port, options.clients, options.rows, shape, options.seconds)
                turns.append(Turn(alone, found["per_second"], found["microseconds"]))
                print(f"turn {number}: bare {alone:.0f}, served {found['per_second']:.0f} per second", flush=True)
    return summary(turns, options)


def summary(turns: list[Turn], options: argparse.Namespace) -> dict[str, Any]:
    """The medians."""
    served = statistics.median(turn.served for turn in turns)
    return {
        "bare_per_second": round(statistics.median(turn.bare for turn in turns), 1),
        "served_per_second": round(served, 1),
        "ratio": round(statistics.median(turn.served / turn.bare for turn in turns), 3),
        "images_per_second": round(served * options.rows, 1),
        "images_ratio": round(statistics.median(turn.served * options.rows / turn.bare for turn in turns), 3),
        "client_microseconds": round(statistics.median(turn.client for turn in turns), 1),
        "clients": options.clients,
        "rows": options.rows,
        "repeats": options.repeats,
        "threads": options.threads,
        "draw": options.draw,
    }


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rows", type=int, default=1, help="images per request")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn")
    parser.add_argument("--draw", type=int, default=0, help="which network")
    parser.add_argument("--exporter", default="torchscript", help="the one of params.yaml is torchscript; dynamo is newer")
    parser.add_argument("--serve", nargs="*", default=[], help="further options of serve-model, without their dashes: max-delay-ms=1")
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.serve = [f"--{option}" for option in options.serve]
    if options.client is not None:
        print(json.dumps(clients(options.client, options.clients, request(options.rows, options.shape), options.seconds)))
    else:
        print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
