"""What preparing data costs: seconds and memory, from arrays, from IDX files and from a folder of image files.

    python benchmarks/prepare_speed.py --images 6000 --repeats 3 [--archive mnist.npz]

60,000 random images of 28 x 28 bytes go through npz and idx, and `--images` PNG files of the same size through images. With
`--archive`, that archive goes through npz as well. Every run is a process of its own; its memory growth is the peak of its
resident memory above what it held when everything was imported and a small set had been prepared. npz and idx hold their
arrays in memory, so theirs grows with the data. The last line is JSON: medians over the repeats, seconds and MiB.
"""

import argparse
import json
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from nas.data.prepare import Splits, prepare
from nas.data.sources.digits import Digits
from nas.load import load

CLASSES = 10
SIDE = 28


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60_000, help="images in the arrays")
    parser.add_argument("--images", type=int, default=6000, help="PNG files in the folder")
    parser.add_argument("--archive", type=Path, help="a real .npz archive to prepare, too")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("SOURCE", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    result: dict[str, object] = {"arrays_of": options.count, "files": options.images, "repeats": options.repeats}
    with tempfile.TemporaryDirectory(dir=".", prefix=".prepare-speed-") as name:
        result |= compare(generate(Path(name).absolute(), options), options.repeats)
    print(json.dumps(result))


def generate(folder: Path, options: argparse.Namespace) -> dict[str, tuple[str, Path]]:
    """Write the data; returns by the name of a measurement its source and path."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (options.count, SIDE, SIDE), dtype=np.uint8)
    labels = (np.arange(options.count) % CLASSES).astype(np.uint8)
    np.savez(folder / "data.npz", x=pixels, y=labels)
    (folder / "idx").mkdir()
    images = struct.pack(">IIII", 0x803, options.count, SIDE, SIDE) + pixels.tobytes()
    (folder / "idx" / "train-images-idx3-ubyte").write_bytes(images)
    (folder / "idx" / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, options.count) + labels.tobytes())
    for label in range(CLASSES):
        (folder / "images" / str(label)).mkdir(parents=True)
    for index in range(options.images):
        Image.fromarray(pixels[index % options.count]).save(folder / "images" / str(index % CLASSES) / f"{index}.png")
    data = {"npz": ("npz", folder / "data.npz"), "idx": ("idx", folder / "idx"), "images": ("images", folder / "images")}
    return data if options.archive is None else {**data, "archive": ("npz", options.archive.absolute())}


def compare(data: dict[str, tuple[str, Path]], repeats: int) -> dict[str, dict[str, float]]:
    """Measure everything, taking turns; returns medians by name."""
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for name, (source, path) in data.items():
            command = [sys.executable, __file__, "--one", source, str(path)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            runs.setdefault(name, []).append(json.loads(done.stdout))
    medians = {name: {key: statistics.median(run[key] for run in all_of) for key in all_of[0]} for name, all_of in runs.items()}
    for name, median in medians.items():
        rate = median["examples"] / median["seconds"]
        print(f"{name}: {median['examples']:.0f} images in {median['seconds']:.2f} s ({rate:.0f}/s), peak +{median['peak_mib']:.0f} MiB")
    return medians


def measure(source: str, path: str) -> dict[str, float]:
    """Prepare one source in this process; returns examples, seconds and the growth of the peak in MiB."""
    sized = {"size": (SIDE, SIDE), "channels": 1} if source == "images" else {}
    chosen = load("data.sources", source).model_validate({"path": path, **sized})
    with tempfile.TemporaryDirectory(dir=Path(path).parent, prefix=".prepared-") as name:
        prepare(Digits(), Splits(), Path(name, "first"), task="image_classification", root=Path())
        before, start = peak_mib(), time.perf_counter()
        described = prepare(chosen, Splits(), Path(name, "second"), task="image_classification", root=Path())
        seconds = time.perf_counter() - start
    counted = sum(described.counts.values())
    return {"examples": counted, "seconds": round(seconds, 3), "peak_mib": round(peak_mib() - before, 1)}


def peak_mib() -> float:
    """The most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the peak of the process that started this one as well
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
