"""How well zero-cost proxies rank the cells of NAS-Bench-201, against a table of trained ones.

    python benchmarks/proxy_correlation.py --table ../shared/data/nasbench201/cifar10.csv.gz --cells 200

The table has a column `arch` with the published strings of cells, any columns of numbers, and possibly scores that others
computed. Networks have the published widths. Images are noise, or real ones with `--images`: an .npz with `x_train`, padded to
32 x 32 and repeated to three channels. The last line is JSON: for every proxy, and for the sum of the ranks by NASWOT and
logSynFlow, Spearman's correlation with the report column and with stored scores, and the milliseconds per cell.
A cell that a proxy cannot score, such as one that carries nothing, is ranked last by it; their number is printed. Stored
scores were made from networks that keep edges which lead nowhere, and ours do not: `stored_live` is over the other cells.
`report_of_stored` is what the stored scores themselves reach on the same cells.
"""

import argparse
import csv
import gzip
import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.architecture import Architecture
from nas.data.dataset import Description
from nas.spaces.cell import EDGES, NODES, Cell
from nas.spaces.graph import live_edges
from nas.tasks.image_classification import ImageClassification
from nas.training.loop import pick_device, stream_seed
from nas.training.proxies import MEASURES
from nas.training.proxy_names import Name, ProxyError

STORED = {"naswot": "c10_zc_naswot", "logsynflow": "c10_zc_logsynflow", "parameters": "c10_params_m", "flops": "c10_flops_m"}
PAIR = ("naswot", "logsynflow")
SIDE = 32

Values = NDArray[np.float64]


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV, zipped or not."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        return list(csv.DictReader(file))


def architecture_of(text: str) -> Architecture:
    """Read `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`. Raises ValueError when it has not six operations."""
    operations = re.findall(r"([a-z_0-9]+)~\d", text)
    return Architecture({f"edge_{source}_{target}": name for (source, target), name in zip(EDGES, operations, strict=True)})


def all_live(cell: Architecture) -> bool:
    """Return whether everything in a cell reaches its output."""
    used = {edge for edge in EDGES if cell[f"edge_{edge[0]}_{edge[1]}"] != "none"}
    return len(live_edges(used, NODES - 1)) == len(used)


def image_task() -> ImageClassification:
    """The task of CIFAR-10's shape."""
    names = ("fit", "select", "confirm", "test")
    description = Description(
        task="image_classification",
        source={"name": "none"},
        input_shape=(SIDE, SIDE, 3),
        input_dtype="uint8",
        classes=[str(number) for number in range(10)],
        counts=dict.fromkeys(names, 1),
        class_counts={name: [1] * 10 for name in names},
        mean=[0.0] * 3,
        std=[1.0] * 3,
        digest="0" * 64,
    )
    return ImageClassification().bind(description)


def batch_of(images: Path | None, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return normalised inputs (size, 3, 32, 32) and classes: noise, or images of an archive."""
    rng = np.random.default_rng(seed)
    if images is None:
        return torch.from_numpy(rng.standard_normal((size, 3, SIDE, SIDE), dtype=np.float32)), torch.arange(size) % 10
    with np.load(images, allow_pickle=False) as archive:
        taken = rng.choice(len(archive["x_train"]), size, replace=False)
        pixels, targets = archive["x_train"][taken].astype(np.float32), archive["y_train"][taken]
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    pixels = (pixels - pixels.mean()) / pixels.std()
    gaps = [(SIDE - side) // 2 for side in pixels.shape[1:3]]
    padded = np.pad(pixels, [(0, 0), *((gap, gap) for gap in gaps), (0, 0)], constant_values=pixels.min())
    inputs = torch.from_numpy(padded).permute(0, 3, 1, 2).expand(size, 3, SIDE, SIDE)
    return inputs.contiguous(), torch.from_numpy(targets.astype(np.int64))


def score(
    cells: list[Architecture], space: Cell, batch: tuple[Tensor, Tensor], seed: int, names: tuple[Name, ...]
) -> tuple[dict[str, Values], dict[str, float]]:
    """Return the scores of cells by each proxy, minus infinity where it has none, and its milliseconds per cell."""
    task, (inputs, targets) = image_task(), batch
    scores: dict[str, Values] = {name: np.full(len(cells), -np.inf) for name in names}
    seconds = dict.fromkeys(scores, 0.0)
    for number, cell in enumerate(cells):
        torch.manual_seed(stream_seed(seed, number))
        network = space.build(cell, task).to(inputs.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name in names:
            start = time.perf_counter()
            with suppress(ProxyError):
                scores[name][number] = MEASURES[name](network, inputs, targets, partial(task.loss, smoothing=0.0))
            seconds[name] += time.perf_counter() - start
    return scores, {name: 1000 * value / len(cells) for name, value in seconds.items()}


def ranks(values: Values) -> Values:
    """Return the rank of every value; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: Values = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return shared


def spearman(first: Values, second: Values) -> float:
    """Return Spearman's rank correlation."""
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def compare(rows: list[Mapping[str, str]], scores: dict[str, Values], report: str) -> dict[str, dict[str, float]]:
    """Return the correlations of every proxy with the report column and with the stored scores."""
    accuracy = np.array([float(row[report]) for row in rows])
    if scores.keys() >= set(PAIR):
        scores = {**scores, "_".join((*PAIR, "ranks")): sum((ranks(scores[name]) for name in PAIR), np.zeros(len(rows)))}
    live = np.array([all_live(architecture_of(row["arch"])) for row in rows])
    found: dict[str, dict[str, float]] = {}
    for name, values in scores.items():
        found[name] = {"report": spearman(values, accuracy), "failed": float(np.isinf(values).sum())}
        if STORED.get(name) in rows[0]:
            stored = np.array([float(row[STORED[name]]) for row in rows])
            found[name] |= {"stored": spearman(values, stored), "stored_live": spearman(values[live], stored[live])}
            found[name]["report_of_stored"] = spearman(stored, accuracy)
    return found


def main() -> None:
    """Read the options, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--report", default="c10_test_200")
    parser.add_argument("--measures", nargs="+", choices=tuple(MEASURES), default=tuple(MEASURES), metavar="NAME", help="all unless told")
    parser.add_argument("--images", type=Path, help="an .npz with x_train and y_train; noise unless told")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--depth", type=int, default=5, help="cells per stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = read_table(options.table)
    chosen = np.random.default_rng(options.seed).choice(len(table), min(options.cells, len(table)), replace=False)
    rows: list[Mapping[str, str]] = [table[index] for index in chosen]
    device = pick_device(options.device)
    inputs, targets = (tensor.to(device) for tensor in batch_of(options.images, options.batch, options.seed))
    cells = [architecture_of(row["arch"]) for row in rows]
    scores, milliseconds = score(cells, Cell(cells=options.depth), (inputs, targets), options.seed, tuple(options.measures))
    found = compare(rows, scores, options.report)
    for name, values in found.items():
        text = ", ".join(f"{key} {value:.3f}" for key, value in values.items())
        print(f"{name}: {text}" + (f", {milliseconds[name]:.1f} ms" if name in milliseconds else ""))
    result = {name: {key: round(value, 4) for key, value in values.items()} for name, values in found.items()}
    settings = {"cells": len(rows), "batch": options.batch, "depth": options.depth, "report": options.report, "seed": options.seed}
    print(json.dumps({**settings, "spearman": result, "milliseconds": {name: round(value, 2) for name, value in milliseconds.items()}}))


if __name__ == "__main__":
    main()
