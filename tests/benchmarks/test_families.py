"""The benchmark of families searches, trains again and goes on from its log, here for a second per family on small digits."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
FAMILIES = ("asha", "enas", "darts")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled digits as an archive with a test set of its own."""
    digits = load_digits()
    pixels, labels = np.rint(digits.images * 255 / 16).astype(np.uint8), digits.target
    path = tmp_path_factory.mktemp("archive") / "digits.npz"
    np.savez(path, x_train=pixels[:1200], y_train=labels[:1200], x_test=pixels[1200:1400], y_test=labels[1200:1400])
    return path


def run(archive: Path, log: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """One run of the benchmark, as small as it can be."""
    small = ["--seconds", "1", "--widths", "4", "--steps", "3", "--retrain-steps", "5", "--randoms", "2", "--limit", "300", "--seeds", "0"]
    command = [sys.executable, "-m", "benchmarks.families", "--archive", str(archive), "--log", str(log), *small, *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280)


def test_it_ends_with_its_table_and_goes_on_from_its_log(archive: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    first = run(archive, log, "--families", ",".join(FAMILIES))
    assert first.returncode == 0, first.stderr
    table = json.loads(first.stdout.splitlines()[-1])
    assert [row["family"] for row in table["families"]] == list(FAMILIES)
    assert table["random"]["architectures"] == 2
    pieces = [json.loads(line) for line in log.read_text().splitlines()]
    searches = {piece["family"]: piece for piece in pieces if piece["piece"] == "search"}
    assert set(searches) == set(FAMILIES)
    assert all(len(piece["architecture"]) == 6 and piece["cpu_seconds"] > 0 for piece in searches.values())
    assert (len(searches["enas"]["trials"]), len(searches["asha"]["trials"])) == (2, 1)
    assert set(searches["darts"]["curves"]) == {"trial", "skip_share", "skip_weight", "entropy"}
    assert searches["asha"]["curves"] == {}

    whole = log.read_bytes()
    log.write_bytes(whole[:-20])  # as a kill leaves it: the last training is made again, and gives what it gave
    again = run(archive, log, "--families", ",".join(FAMILIES))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == table
    assert log.read_text().count("\n") == len(pieces)
