"""What serving costs: requests per second of `nasflow serve-model`, against bare loops over onnxruntime.

    python benchmarks/serving.py --repeats 30 --clients 16
    python benchmarks/serving.py --repeats 30 --clients 16 --processes 2

The model is a network of the space of params.yaml for the digits with fresh weights, exported and bundled as the pipeline does;
--draw picks another one. All run it with --threads threads. The server has --processes. `bare` is one loop in one process, which
runs one image after the other; `bare_together` are as many of these loops at once as the server has processes, added up: the most
that these could give if HTTP cost nothing. The clients are connections that stay open, each with one request of --rows images under
way, in one process of their own; that process shares the machine with the server, and its processor time is printed. The three take
turns of --seconds each. The last line is JSON: medians over the turns, and the medians of the ratios of neighbours: `ratio` to the
one loop, `ratio_together` to the loops at once; `images` are per second, where a request holds several.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WARM_SECONDS = 0.2


class Turn(NamedTuple):
    """What one turn measured, per second; client: processor time of the clients per request, microseconds."""

    bare: float
    together: float
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


def loop(folder: Path, threads: int) -> None:
    """Be a process that loops over single images: for each line of input, which says how long, print the runs per second."""
    from export.machine import Target
    from export.session import open_session

    session = open_session(folder / "model.onnx", Target(threads=threads))
    shape = session.get_inputs()[0].shape[1:]
    feed = {session.get_inputs()[0].name: np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)}
    print(*shape, flush=True)
    for line in sys.stdin:
        for duration in (WARM_SECONDS, float(line)):
            begin, runs = time.perf_counter(), 0
            while (passed := time.perf_counter() - begin) < duration:
                session.run(None, feed)
                runs += 1
        print(runs / passed, flush=True)


class Loops:
    """As many bare loops as there may have to be at once. shape: of one image."""

    def __init__(self, stack: ExitStack, folder: Path, threads: int, count: int) -> None:
        words = [sys.executable, __file__, "--loop", str(folder), "--threads", str(threads)]
        pipe = subprocess.PIPE
        # They end with their input, when the stack is left.
        self._loops = [stack.enter_context(subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)) for _ in range(count)]
        said = [self._said(running) for running in self._loops]  # all have opened the model then
        self.shape = [int(size) for size in said[0].split()]

    def run(self, count: int, seconds: float) -> float:
        """Runs per second of `count` loops at once, all together."""
        for running in self._loops[:count]:
            assert running.stdin is not None
            running.stdin.write(f"{seconds}\n")
            running.stdin.flush()
        return sum(float(self._said(running)) for running in self._loops[:count])

    @staticmethod
    def _said(running: "subprocess.Popen[str]") -> str:
        assert running.stdout is not None
        return running.stdout.readline()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all, taking turns."""
    turns = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        bundle(Path(name), options.draw, options.exporter)
        loops = Loops(stack, Path(name), options.threads, options.processes)
        port = stack.enter_context(server(Path(name), options.threads, ["--processes", str(options.processes), *options.serve]))
        clients_apart(port, options.clients, options.rows, loops.shape, WARM_SECONDS)
        for number in range(options.repeats):
            alone = loops.run(1, options.seconds)
            together = loops.run(options.processes, options.seconds) if options.processes > 1 else alone
            found = clients_apart(port, options.clients, options.rows, loops.shape, options.seconds)
            turns.append(Turn(alone, together, found["per_second"], found["microseconds"]))
            print(f"turn {number}: bare {alone:.0f}, together {together:.0f}, served {found['per_second']:.0f} per second", flush=True)
    return summary(turns, options)


def summary(turns: list[Turn], options: argparse.Namespace) -> dict[str, Any]:
    """The medians."""
    served = statistics.median(turn.served for turn in turns)
    return {
        "bare_per_second": round(statistics.median(turn.bare for turn in turns), 1),
        "bare_together_per_second": round(statistics.median(turn.together for turn in turns), 1),
        "served_per_second": round(served, 1),
        "ratio": round(statistics.median(turn.served / turn.bare for turn in turns), 3),
        "ratio_together": round(statistics.median(turn.served / turn.together for turn in turns), 3),
        "images_per_second": round(served * options.rows, 1),
        "images_ratio": round(statistics.median(turn.served * options.rows / turn.bare for turn in turns), 3),
        "client_microseconds": round(statistics.median(turn.client for turn in turns), 1),
        "clients": options.clients,
        "rows": options.rows,
        "repeats": options.repeats,
        "processes": options.processes,
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
    parser.add_argument("--processes", type=int, default=1, help="of the server, and bare loops at once")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn")
    parser.add_argument("--draw", type=int, default=0, help="which network")
    parser.add_argument("--exporter", default="torchscript", help="the one of params.yaml is torchscript; dynamo is newer")
    parser.add_argument("--serve", nargs="*", default=[], help="further options of serve-model, without their dashes: max-delay-ms=1")
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.serve = [f"--{option}" for option in options.serve]
    if options.client is not None:
        print(json.dumps(clients(options.client, options.clients, request(options.rows, options.shape), options.seconds)))
    elif options.loop is not None:
        loop(options.loop, options.threads)
    else:
        print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
