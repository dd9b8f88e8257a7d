"""How processes of ours begin and end: forked from a server where that can be, with one pinned thread, and never without their parent."""

import ctypes
import importlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext

LATE_IMPORTS = ("torch._dynamo",)
"""What PyTorch imports with the first optimizer, for a second; processes that are forked from one that has it begin at once."""
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_LATE_ROOMS = ("nas.networks", "nas.training")
_LATE_FILES = ("nas.evaluators.structure",)


def context(*, anew: bool = False) -> ForkServerContext | SpawnContext:
    """How this thread is to start processes; `anew`: without anything that this process has imported."""
    if anew or threading.current_thread() is not threading.main_thread():
        return multiprocessing.get_context("spawn")
    start_server()
    return multiprocessing.get_context("forkserver")


def start_server(*modules: str) -> None:
    """Start what processes are forked from, unless it runs. For the main thread.

    It imports what this process has of ours, `modules`, and in a process that computes what of ours is imported where it is used.
    Whoever will need processes, but not at once, may call it early: it imports while this process does something else.
    """
    ours = sorted(name for name in sys.modules if name.split(".")[0] in ("nas", "export"))
    late = imported_late() if "torch" in sys.modules else []
    multiprocessing.get_context("forkserver").set_forkserver_preload(["nas.forked", *ours, *late, *modules])
    with interrupts_masked():
        forkserver.ensure_running()


def imported_late() -> list[str]:
    """Return the modules of ours that are imported inside functions, since they import PyTorch, which settings are read without.

    A process that is forked from one that has them begins its first trial at once.
    """
    rooms = ((room, importlib.import_module(room).__path__) for room in _LATE_ROOMS)
    return [*(f"{room}.{module.name}" for room, path in rooms for module in pkgutil.iter_modules(path)), *_LATE_FILES]


def leave_signals_to_the_main_thread() -> None:
    """Ask the system to hand Ctrl-C and an end request to the main thread: one taken by another thread would not wake it."""
    resource_tracker.ensure_running()  # it is started with the first process, and forgets the mask on the way
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


@contextmanager
def signals_left_to_this_thread() -> Iterator[None]:
    """Have the threads that libraries start meanwhile leave Ctrl-C and end requests to this one, which is the main thread.

    Processes started meanwhile leave them as well, and end with this process by other means.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    leave_signals_to_the_main_thread()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def interrupts_masked() -> Iterator[None]:
    """Keep Ctrl-C, which reaches every process of a terminal, from one that starts: it would end with a traceback, not knowing better."""
    resource_tracker.ensure_running()  # it is started with the first process, and forgets the mask on the way
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def begin_worker(parent: int) -> None:
    """Make this process a worker: it ends with its parent, leaves Ctrl-C to it, and computes with one thread."""
    die_with_parent(parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the thread that started this process keeps it to its own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pin_threads()


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the one that started it dies, whatever kills it; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def pin_threads() -> None:
    """Compute with one thread: results then do not depend on the number of cores, and processes do not fight for them."""
    import torch

    torch.set_num_threads(1)
    # As `use_deterministic_algorithms(True, warn_only=True)`, which loads a compiler as well, and takes a second for it.
    torch.set_deterministic_debug_mode("warn")
    # Filling every new tensor takes a quarter of a training step on small networks, and only shows reads of memory never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
