"""How often are the verdicts on latency right? The same file against itself, and against one of 1.5 times the work, beside a busy process.

    python benchmarks/latency_verdicts.py --pairs 100

Each pair draws one of three networks and compares its file twice: with itself, which must be indistinguishable, and with a
network of 1.5 times as many equal layers, which must be the slower one. Which of the two comes first is drawn as well. The last
line is JSON: the shares that came out right.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from export.machine import Target
from export.measure import Comparison, compare
from export.quiet import machine_quiet

BUSY = (
    "import os, sys, threading\n"
    "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"  # ends with its parent
    "while True: pass"
)


class Work(NamedTuple):
    """A network of equal 3 x 3 convolutions; size: of the square image, pixels."""

    layers: int
    channels: int
    size: int


WORKS = (Work(4, 16, 28), Work(8, 16, 32), Work(6, 32, 32))
"""About 0.1, 0.25 and 0.6 ms on one core of a server."""


class Outcome(NamedTuple):
    """Whether both verdicts of a pair were right."""

    same: bool
    more: bool


def network(work: Work, layers: int) -> bytes:
    """An ONNX file of `layers` convolutions between equal shapes, so that the work is proportional to their number."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(layers):
        kernel = rng.standard_normal((work.channels, work.channels, 3, 3), dtype=np.float32) / np.float32(3 * work.channels**0.5)
        weights.append(numpy_helper.from_array(kernel, f"weight_{layer}"))
        nodes.append(helper.make_node("Conv", [value, f"weight_{layer}"], [f"sum_{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"sum_{layer}"], [f"value_{layer}"]))
        value = f"value_{layer}"
    shape: list[str | int | None] = ["batch", work.channels, work.size, work.size]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", value)]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    content: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    return content


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Processes that each take all of a core that they are given."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def judge(pair: int, target: Target, seconds: float) -> Outcome:
    """Both comparisons of one pair."""
    rng = np.random.default_rng(pair)
    work = WORKS[int(rng.integers(len(WORKS)))]
    less, more = network(work, work.layers), network(work, work.layers * 3 // 2)
    with machine_quiet():
        same = compare(less, less, target, seconds=seconds, seed=pair)
        swapped = bool(rng.integers(2))
        other = compare(*((more, less) if swapped else (less, more)), target, seconds=seconds, seed=pair)
    outcome = Outcome(same.verdict == "indistinguishable", other.verdict == ("slower" if swapped else "faster"))
    print(f"pair {pair} {tuple(work)}: itself {described(same)}; {'more' if swapped else 'less'} work {described(other)}", flush=True)
    return outcome


def described(comparison: Comparison) -> str:
    """The verdict with the interval that it stands on."""
    ratio = comparison.ratio
    return f"{comparison.verdict} ({ratio.low:.3f} to {ratio.high:.3f}, {comparison.blocks} blocks)"


def main() -> None:
    """Read the options, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1.0, help="per comparison, of which each pair has two")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--busy", type=int, default=1, help="how many busy processes run beside it")
    options = parser.parse_args()
    target, begin = Target(1, options.threads), time.perf_counter()
    with busy_processes(options.busy):
        outcomes = [judge(pair, target, options.seconds) for pair in range(options.pairs)]
    found = {
        "pairs": options.pairs,
        "same_indistinguishable": sum(outcome.same for outcome in outcomes) / options.pairs,
        "more_work_told_apart": sum(outcome.more for outcome in outcomes) / options.pairs,
    }
    settings = {"threads": options.threads, "busy": options.busy, "seconds": round(time.perf_counter() - begin, 1)}
    print(json.dumps(found | settings))


if __name__ == "__main__":
    main()
