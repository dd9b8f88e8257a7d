"""A run of `nasflow serve` ends when what serves it is gone, however that ended."""

import signal
import subprocess
import sys

import pytest
from fake_project import until

FOLLOWER = """
import signal, sys, time
from flows import processes
if len(sys.argv) > 2:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    processes._GENTLE_SECONDS = 0.2
processes.follow(int(sys.argv[1]))
print("follows", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("words", "number"), [([], signal.SIGTERM), (["deaf"], signal.SIGKILL)])
def test_whoever_follows_a_process_ends_after_it_and_gently_first(words: list[str], number: signal.Signals) -> None:
    with subprocess.Popen(["sleep", "60"]) as leader:
        command = [sys.executable, "-c", FOLLOWER, str(leader.pid), *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline() == "follows\n"
            assert follower.poll() is None
            leader.kill()
            leader.wait()
            until(lambda: follower.poll() is not None, 20)
            assert follower.returncode == -number
