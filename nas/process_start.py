"""How processes of ours begin and end: with one pinned thread, Ctrl-C left to the one that started them, and never without it."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

WATCH = "parent-watch"
"""The name of a thread that looks now and then whether another process lives, and holds nothing that a fork would wait for."""
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


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
