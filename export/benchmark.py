"""How fast is the model beside this file on this machine? python benchmark.py [--batch-sizes 1 8] [--threads 1 2] [--output device.json]

Needs Python 3.10 or newer, numpy and onnxruntime, nothing else. Times every batch size with every number of threads and writes
a JSON file with the figures, the machine and the model's SHA-256. Errors are one sentence on stderr, exit code 2.

Times are what passes on the clock, as a caller waits, in milliseconds. Leave the machine alone meanwhile. `core_ms` is the median of
the calling thread's processor time: with one thread on the CPU, what a run takes on a machine at rest, as `latency.ms` of the manifest.

Several models (`--model a.onnx b.onnx`, `--model FOLDER`, or a folder `models` beside this file) take turns, so that a machine that
becomes slower does so for all of them. The JSON file then has format 2: `models`, each with `file`, `sha256`, `bytes` and
`measurements`, in the place of `model` and `measurements`. `p50_low_ms` and `p50_high_ms` are the ends of a 97.9 % interval of the
median, from the medians of ten turns.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FORMAT, FORMAT_OF_SEVERAL = 1, 2
FEWEST = 30  # runs; fewer say nothing about the slowest
TURNS = 10  # of every model; the second and the ninth of ten medians hold the true one with 1 - 22 / 1024
DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class BenchmarkError(Exception):
    """What is wrong with the call or the model, and what to do about it."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print one line per setting, write the file and return the exit code: 0, or 2 after an error on stderr."""
    options = _options().parse_args(arguments)
    try:
        result = benchmark(_models(options.model), options.batch_sizes, options.threads, options.provider, options.seconds)
        _write(options.output, json.dumps(result, indent=2, sort_keys=True) + "\n")
    except BenchmarkError as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    for model in result.get("models", [result]):
        for one in model["measurements"]:
            times = ", ".join(f"{name} {one[name + '_ms']:.3f} ms" for name in ("p50", "p90", "p99"))
            setting = f"batch {one['batch_size']}, threads {one['threads']}: {times}, {one['examples_per_second']:.0f} examples/s"
            print(f"{model['file']}, {setting}" if "file" in model else setting)
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmark.py", description="Time exported models on this machine.")
    where = "ONNX files, or folders of them; by default model.onnx beside this file, or else the folder models"
    parser.add_argument("--model", type=Path, nargs="+", action="extend", help=where)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1], help="examples per run")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="threads of one run")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="onnxruntime's name of what executes")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to time each model in each setting, after the warm-up")
    parser.add_argument("--output", type=Path, default=Path("device.json"), help="the JSON file to write")
    return parser


def _models(given: "list[Path] | None") -> list[Path]:
    """The files to time, each once, in the order of the call; those of a folder by the numbers in their names."""
    here = Path(__file__).parent
    beside = here / "model.onnx"
    places = given or [here / "models" if (here / "models").is_dir() and not beside.exists() else beside]
    found: dict[Path, None] = {}
    for place in places:
        inside = sorted(place.glob("*.onnx"), key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path.name)])
        if place.is_dir() and not inside:
            raise BenchmarkError(f"there is no ONNX file in {place}: give another place with --model")
        found.update(dict.fromkeys(inside if place.is_dir() else [place]))
    return list(found)


def _parts(name: str) -> list[str]:
    return re.split(r"(\d+)", name)  # words and numbers take turns, so that like is compared with like


def benchmark(models: list[Path], batch_sizes: list[int], threads: list[int], provider: str, seconds: float) -> dict[str, Any]:
    """What device.json holds: format, model (sha256, bytes), machine, provider, measured_at (UTC), measurements; see above for several.

    Raises BenchmarkError for a number below 1, a provider that this onnxruntime lacks, or a model that cannot be run.
    """
    if min(*batch_sizes, *threads, 1) < 1 or not 0 <= seconds < float("inf"):
        raise BenchmarkError("batch sizes and threads must be at least 1 and seconds at least 0: correct the call")
    if provider not in onnxruntime.get_available_providers():
        known = ", ".join(onnxruntime.get_available_providers())
        raise BenchmarkError(f"this onnxruntime has no {provider}, only {known}: choose one of these with --provider")
    contents = [_content(model) for model in models]
    examples = [_examples(model) for model in models]
    measurements: list[list[dict[str, Any]]] = [[] for _ in models]
    for count in threads:
        sessions = [_session(content, count, provider) for content in contents]
        for size in batch_sizes:
            for kept, found in zip(measurements, _measure(sessions, size, examples, seconds), strict=True):
                kept.append({"batch_size": size, "threads": count, **found})
    common = {
        "machine": machine(),
        "provider": provider,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017 - datetime.UTC is newer than 3.10
    }
    files = [{"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for content in contents]
    if len(models) == 1:
        return {"format": FORMAT, "model": files[0], **common, "measurements": measurements[0]}
    several = [{"file": path.name, **file, "measurements": kept} for path, file, kept in zip(models, files, measurements, strict=True)]
    return {"format": FORMAT_OF_SEVERAL, **common, "models": several}


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """What makes two measurements comparable; what the system does not tell is "unknown". No name of the machine or its user."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    flags = sorted(set(_field(text, "flags", "Features").split()))
    return {
        "processor": _field(text, "model name", "Processor") or platform.processor() or "unknown",
        "flags": hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16] if flags else "unknown",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "onnxruntime": onnxruntime.__version__,
    }


def _field(text: str, *names: str) -> str:
    for name in names:
        found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
        if found:
            return found[1].strip()
    return ""


def _content(model: Path) -> bytes:
    """The model's bytes; refused when a manifest beside it names another file: figures must be true of what ships."""
    try:
        content = model.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"there is no model at {model}: give its place with --model") from error
    said = _expected(model)
    found = hashlib.sha256(content).hexdigest()
    if said is not None and found != said[1]:
        raise BenchmarkError(f"{model} is not the file in {said[0].name} (sha256 {found[:12]}, not {said[1][:12]}): copy the bundle again")
    return content


def _expected(model: Path) -> "tuple[Path, str] | None":
    """The manifest beside the model, or the index of the pack that its folder belongs to, with the SHA-256 that it gives."""
    manifest, folder = model.with_name("manifest.json"), model.absolute().parent
    place = manifest if manifest.is_file() or folder.name != "models" else folder.parent / "index.json"
    if not place.is_file():
        return None
    try:
        entry = json.loads(place.read_text(encoding="utf-8"))
        return place, str((entry if place == manifest else entry["models"][model.name])["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{place} cannot be read ({_first_line(error)}): copy the bundle again") from error


def _examples(model: Path) -> dict[str, Any]:
    """The bundle's real examples by name, where they are beside the model: what a model computes may depend on what it sees."""
    try:
        with np.load(model.with_name("test_vectors.npz"), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        return {}
    except Exception as error:  # numpy and zipfile raise many things on a damaged file
        raise BenchmarkError(f"test_vectors.npz cannot be read ({_first_line(error)}): copy the bundle again") from error


def _session(content: bytes, threads: int, provider: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin would take the cores from whatever else the device does.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=[provider])
    except Exception as error:  # onnxruntime has an exception class for each way in which a file can be unusable
        raise BenchmarkError(f"the model cannot be loaded ({_first_line(error)}): copy the bundle again") from error


def _measure(
    sessions: list[onnxruntime.InferenceSession], size: int, examples: list[dict[str, Any]], seconds: float
) -> list[dict[str, Any]]:
    """The figures of every session; they take turns."""
    batches = [
        {port.name: _batch(port, size, known) for port in session.get_inputs()} for session, known in zip(sessions, examples, strict=True)
    ]
    warm = []
    for session, batch in zip(sessions, batches, strict=True):
        try:
            session.run(None, batch)
        except Exception as error:  # see _session
            raise BenchmarkError(f"the model does not run on batches of {size} ({_first_line(error)}): choose another size") from error
        warm.append(len(_timed(session, batch, seconds / 5, 10)) + 1)
    times: list[list[list[tuple[float, float]]]] = [[] for _ in sessions]
    for turn in range(TURNS):
        # Every other turn goes backwards: whoever follows a large model would else always find its caches taken.
        for at in range(len(sessions))[:: 1 if turn % 2 else -1]:
            times[at].append(_timed(sessions[at], batches[at], seconds / TURNS, -(-FEWEST // TURNS)))
    return [{**_figures(turns, size), "warm_up_runs": count} for turns, count in zip(times, warm, strict=True)]


def _figures(turns: list[list[tuple[float, float]]], size: int) -> dict[str, Any]:
    """What the milliseconds of all turns say; each run is the time that passed and that of the calling thread."""
    times, core = np.array([one for turn in turns for one in turn]).T
    result = {f"p{percent}_ms": float(np.percentile(times, percent)) for percent in (50, 90, 99)}
    medians = sorted(float(np.median(turn, axis=0)[0]) for turn in turns)
    ends = {"p50_low_ms": min(medians[1], result["p50_ms"]), "p50_high_ms": max(medians[-2], result["p50_ms"])}
    others = {"core_ms": float(np.median(core)), "min_ms": float(times.min()), "runs": len(times)}
    return {**result, **ends, **others, "examples_per_second": float(size * 1000 / times.mean())}


def _timed(session: onnxruntime.InferenceSession, batch: dict[str, Any], seconds: float, fewest: int) -> list[tuple[float, float]]:
    """Milliseconds of every run, as in `_figures`, for as long as was asked, and of `fewest` runs at least."""
    times: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while len(times) < fewest or time.perf_counter() - begin < seconds:
        core, before = time.thread_time_ns(), time.perf_counter_ns()
        session.run(None, batch)
        ended = time.perf_counter_ns()
        times.append(((ended - before) / 1e6, (time.thread_time_ns() - core) / 1e6))
    return times


def _batch(port: Any, size: int, examples: dict[str, Any]) -> Any:
    if port.name in examples and len(examples[port.name]):
        return np.ascontiguousarray(examples[port.name][np.arange(size) % len(examples[port.name])])
    shape = port.shape[1:]
    if port.type not in DTYPES or not all(isinstance(length, int) for length in shape):
        raise BenchmarkError(f"{port.name} is {port.type} of shape {port.shape}, which says too little: put test_vectors.npz beside it")
    rng = np.random.default_rng(0)
    if port.type == "tensor(uint8)":
        return rng.integers(0, 256, (size, *shape), np.uint8)
    return rng.standard_normal((size, *shape)).astype(DTYPES[port.type])


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be written ({_first_line(error)}): give another place with --output") from error
    finally:
        if aside.exists():
            aside.unlink()


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


if __name__ == "__main__":
    sys.exit(main())
