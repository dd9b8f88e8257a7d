"""The process between a flow and DVC: it holds DVC imported, runs one stage at a time, and ends everything when the flow is gone.

Its arguments are two descriptors, ANSWERS and LOCK, and what people call the run, which DVC tells those that it refuses meanwhile.
Requests are JSON lines on standard input, answers JSON lines on ANSWERS; LOCK is only held, so the project stays locked as long as this
process lives. Each stage runs in a fork with a session of its own: it starts in milliseconds, cannot disturb the next one, and can be
ended as a group. The end of standard input, which the kernel brings about even when the flow was killed, means: end what runs, then exit.
"""

import contextlib
import json
import logging
import os
import re
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from flows import processes
from flows.ending import TEMPORARY

GRACE_SECONDS = 5.0
_STATUS = re.compile(r"exited with (-?\d+)")  # StageCmdFailedError tells it in its message alone
_MACHINE = frozenset({TEMPORARY, -signal.SIGKILL, 128 + signal.SIGKILL})
_OUTCOMES = (("Running stage", "ran"), ("didn't change, skipping", "cached"), ("is cached - skipping run", "restored"))


def main() -> None:
    """Serve requests until standard input ends."""
    answers = int(sys.argv[1])
    for handle in (answers, int(sys.argv[2])):
        os.set_inheritable(handle, False)
    sys.argv = sys.argv[3:]
    _end_on_signals()
    _import_dvc()
    for request in _requests():
        answer = _run(request)
        with contextlib.suppress(BrokenPipeError):
            os.write(answers, json.dumps(answer).encode() + b"\n")


def _end_on_signals() -> None:
    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the flow answers Ctrl-C by closing our input
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _import_dvc() -> None:
    import dvc.repo.reproduce
    import dvc.stage.cache
    import dvc.stage.run  # noqa: F401  (a fork inherits what is imported here, so a stage does not wait for it)


def _requests() -> Iterator[dict[str, Any]]:
    left = b""
    while True:
        line, newline, rest = left.partition(b"\n")
        if newline:
            left = rest
            yield json.loads(line)
            continue
        part = os.read(0, 65536)
        if not part:
            return
        left += part


def _run(request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _stage_process(writing, request)
    os.close(writing)
    text = b""
    try:
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([0, reading], [], [])
            if 0 in ready:  # no request comes while one is served: this is the end of the flow
                raise SystemExit(1)
            part = os.read(reading, 65536)
            if not part:
                break
            text += part
        if text:
            os.waitpid(child, 0)
    finally:
        os.close(reading)
        # Also after success: what a stage left in the background would go on writing.
        processes.end_group(child, GRACE_SECONDS if not text else 0.2)
    answer: dict[str, Any] = json.loads(text) if text else {"error": "gone", "message": "the process that ran DVC was killed"}
    return answer


def _stage_process(answer: int, request: dict[str, Any]) -> None:
    code = 1
    try:
        os.setsid()
        os.environ.pop(processes.PARENT, None)
        processes.die_with_parent()
        os.environ[processes.PARENT] = str(os.getpid())
        # The stage gets the same signal and ends in its own time; DVC ending first would have the kernel kill it at once.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.write(answer, json.dumps(reproduce(request["stage"], request["force"])).encode() + b"\n")
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # a fork must not run the exit handlers of the process it copies


def reproduce(stage: str, force: bool) -> dict[str, Any]:
    """Bring `stage` alone up to date in the current folder with DVC's own interface; failures come back as data, under "error"."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.rwlock import RWLockFileCorruptedError
    from dvc.stage.exceptions import StageCmdFailedError

    seen = _Outcome()
    logger = logging.getLogger("dvc")
    logger.setLevel(logging.INFO)
    logger.handlers = [seen]  # DVC's own hints (`git add ...`) are for a person who runs DVC
    logger.propagate = False
    try:
        with Repo(os.curdir) as repo:
            repo.reproduce(targets=[stage], single_item=True, force=force)
    except (DvcException, OSError) as error:
        chain = _chain(error)
        if any(isinstance(link, LockError | RWLockFileCorruptedError) for link in chain):
            return {"error": "busy", "message": str(chain[-1])}
        failed = next((link for link in chain if isinstance(link, StageCmdFailedError)), None)
        if failed is not None:
            return {"error": _kind(str(failed)), "message": str(failed), "printed": True}
        return {"error": "dvc", "message": ": ".join(dict.fromkeys(str(link) for link in chain))}
    return {"outcome": seen.outcome}


def _kind(message: str) -> str:
    """Whether a stage failed, or the machine failed it: it was killed, as where memory ends, or said itself that it had no room."""
    status = _STATUS.search(message)
    return "gone" if status is not None and int(status[1]) in _MACHINE else "stage"


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    return chain


class _Outcome(logging.Handler):
    """Learns from DVC's log what happened to the stage; DVC's interface does not tell a restored stage from one that ran."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.outcome = "cached"

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        for sign, outcome in _OUTCOMES:
            if sign in message:
                self.outcome = outcome
        if record.levelno >= logging.WARNING:
            print(message, file=sys.stderr, flush=True)
