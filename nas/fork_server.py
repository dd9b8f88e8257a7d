"""The server that processes of ours are forked from: they begin with all that it has imported, which takes a new Python seconds.

Where that is safe it is a fork of the process that starts it, and then has what that one has at once. Everywhere else it is a new
Python, which imports the same again.
"""

import importlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.context import ForkServerContext, SpawnContext

from nas.process_start import WATCH, interrupts_masked

LATE_IMPORTS = ("torch._dynamo",)
"""What PyTorch imports with the first optimizer, for a second; processes that are forked from one that has it begin at once."""
_GPU_BUILDS = ("cuda", "hip", "xpu")
"""Where `torch.version` says for which GPUs PyTorch was built."""
_LATE_ROOMS = ("nas.networks", "nas.training")
_LATE_FILES = ("nas.evaluators.structure",)


def context(*, anew: bool = False) -> ForkServerContext | SpawnContext:
    """How this thread is to start processes; `anew`: without anything that this process has imported."""
    if anew or threading.current_thread() is not threading.main_thread():
        return multiprocessing.get_context("spawn")
    _run(_wanted())
    return multiprocessing.get_context("forkserver")


def start_server(*modules: str) -> None:
    """Start what processes are forked from, unless it runs. For the main thread of a process that has imported, and not yet computed.

    It has what this process has imported of ours, what of ours is imported where it is used, and `modules`. A server that is a fork
    has them from this process, which imports them first; another one imports them while this process does something else.
    """
    wanted = _wanted(modules)
    if not may_fork():
        return _run(wanted)
    for name in wanted:
        importlib.import_module(name)
    resource_tracker.ensure_running()  # or it would be forked as well
    start = util.spawnv_passfds
    util.spawnv_passfds = _fork  # type: ignore[assignment]
    try:
        return _run(wanted)
    finally:
        util.spawnv_passfds = start


def _wanted(modules: Sequence[str] = ()) -> list[str]:
    """What a server has: what this process has of ours, what is imported where it is used if this one computes, and `modules`."""
    ours = sorted(name for name in sys.modules if name.split(".")[0] in ("nas", "export"))
    return [*ours, *(imported_late() if "torch" in sys.modules else []), *modules]


def _run(modules: Sequence[str]) -> None:
    """Have the server run."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["nas.forked", *modules])
    with interrupts_masked():
        forkserver.ensure_running()


def imported_late() -> list[str]:
    """Return the modules of ours that are imported inside functions, since they import PyTorch, which settings are read without.

    A process that is forked from one that has them begins its first trial at once.
    """
    rooms = ((room, importlib.import_module(room).__path__) for room in _LATE_ROOMS)
    return [*(f"{room}.{module.name}" for room, path in rooms for module in pkgutil.iter_modules(path)), *_LATE_FILES]


def may_fork() -> bool:
    """Whether a fork of this process, which has not computed, can compute: on Linux, without other threads, with PyTorch for CPUs alone.

    Another thread may hold a lock that nobody gives back in the fork, and a GPU's driver does not survive one. Threads of OpenBLAS
    end by themselves before a fork; that of ONNX Runtime is in every server that has imported it.
    """
    torch, others = sys.modules.get("torch"), [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if sys.platform != "linux" or torch is None or not set(others) <= {WATCH}:
        return False
    return all(getattr(torch.version, kind, None) is None for kind in _GPU_BUILDS)


def _fork(path: bytes, arguments: Sequence[str], kept: Sequence[int]) -> int:
    """Do in a fork of this process what multiprocessing would start a new Python for; returns its number.

    The last of the arguments is the code that would be run, `kept` are the files that it uses.
    """
    sys.stdout.flush()  # or a fork would print again what waits there
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    try:
        _forget(kept)
        exec(arguments[-1], {})
    except SystemExit:
        pass
    except BaseException:  # noqa: BLE001 - nothing of what this process was doing may go on in its fork
        traceback.print_exc()
    finally:
        os._exit(0)


def _forget(kept: Sequence[int]) -> None:
    """Be a process without signal handlers, files and a server of its own."""
    for handled in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(handled, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        # Not closed: an object that still knows the number would close whatever has it next. The listing's own is closed by now.
        if number > 2 and number not in (*kept, nothing) and number < nothing:
            os.dup2(nothing, number, inheritable=False)
    forkserver._forkserver.__init__()  # type: ignore[misc]  # or a process would wait for a server that is no child of it
