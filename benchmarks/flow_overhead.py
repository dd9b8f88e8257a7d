"""What `nasflow run` costs on top of `dvc repro`: four trivial stages, measured side by side, with and without a running server.

    python -m benchmarks.flow_overhead [REPEATS]

Each repeat takes, in turn, the seconds of `dvc repro` and of `nasflow run` (with its own server; against a running one) on the
same state: "work" with every stage to run, "idle" with nothing to do. The last line is JSON: medians, and differences to dvc.
"""

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

STAGES = ("prepare", "search", "train", "export")
RUN = "import sys, pathlib; from flows import launch; sys.exit(launch.run(pathlib.Path('.'), check=[]))"  # as `nasflow run` does
COMMANDS = {
    "dvc": [sys.executable, "-m", "dvc", "repro"],
    "embedded": [sys.executable, "-c", RUN],
    "running": [sys.executable, "-c", RUN],
}


def main() -> None:
    """Measure and print."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        plain = make_project(root)
        seconds: dict[str, list[float]] = {}
        first = timed(root, COMMANDS["embedded"], plain)  # creates Prefect's database: paid once per project
        with server(root / "server", plain) as url:
            environments = {"dvc": plain, "embedded": plain, "running": {**plain, "PREFECT_API_URL": url}}
            for repeat in range(repeats):
                for kind in ("work", "idle"):
                    for way, command in COMMANDS.items():
                        if kind == "work":
                            change(root, f"{repeat} {way}")
                        elif repeat == 0:
                            timed(root, COMMANDS["dvc"], plain)
                        taken = timed(root, command, environments[way])
                        seconds.setdefault(f"{way} {kind}", []).append(taken)
                        print(f"{way:9} {kind}  {taken:6.2f} s", flush=True)
    print(json.dumps(report(seconds, first, repeats)))


def report(seconds: Mapping[str, Sequence[float]], first: float, repeats: int) -> dict[str, object]:
    """Medians per way and kind, and what each way adds to dvc, in seconds."""
    medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    added = {
        f"{way} {kind}": round(medians[f"{way} {kind}"] - medians[f"dvc {kind}"], 2)
        for way in ("embedded", "running")
        for kind in ("work", "idle")
    }
    spread = {name: [round(min(values), 2), round(max(values), 2)] for name, values in seconds.items()}
    cores = len(os.sched_getaffinity(0))
    return {
        "first_ever_embedded": round(first, 2),
        "median_seconds": medians,
        "added_seconds": added,
        "spread_seconds": spread,
        "repeats": repeats,
        "cores": cores,
        "python": platform.python_version(),
    }


def make_project(root: Path) -> dict[str, str]:
    """Four chained stages that only copy a number; returns the environment of every command."""
    lines = ["stages:"]
    for index, stage in enumerate(STAGES):
        source = "number.txt" if index == 0 else f"{STAGES[index - 1]}.txt"
        lines += [f"  {stage}:", f"    cmd: cp {source} {stage}.txt", f"    deps: [{source}]", f"    outs: [{stage}.txt]"]
    (root / "dvc.yaml").write_text("\n".join(lines) + "\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "DVC", "NASFLOW"))}
    environment = {**kept, "HOME": str(root), "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, env=environment, check=True)
    shutil.copy(Path(__file__).parents[1] / "params.yaml", root)  # settings are checked as in a real project
    change(root, "first")
    return environment


def change(root: Path, text: str) -> None:
    """Something for every stage to do."""
    (root / "number.txt").write_text(text)


def timed(root: Path, command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds until the process has ended, which must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return taken


@contextmanager
def server(home: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The API address of a Prefect server of our own."""
    home.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    silent = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--port", str(port)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**environment, **silent}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api"
    try:
        while process.poll() is None:
            with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(f"{url}/health"):
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
