"""The alarm: what does not come back is interrupted, and the process is as before."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from nas.training import alarm
from nas.training.alarm import Alarm


class LateError(RuntimeError):
    """What the alarm raises here."""


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test leaves a handler or a timer; the timer of pytest's own time limit rests meanwhile."""
    monkeypatch.setattr(alarm, "_SOON", 0.01)
    monkeypatch.setattr(alarm, "_AGAIN", 0.02)
    resting, before = signal.setitimer(signal.ITIMER_REAL, 0), signal.getsignal(signal.SIGALRM)
    yield
    left, after = signal.setitimer(signal.ITIMER_REAL, 0), signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, *resting)
    assert left == (0.0, 0.0)
    assert after == before


def sleep_for_ever() -> None:
    while True:
        time.sleep(60)


def test_a_sleep_is_interrupted() -> None:
    with pytest.raises(LateError), Alarm(0.01, LateError):
        sleep_for_ever()


def test_what_is_caught_inside_is_raised_again() -> None:
    caught = 0
    with pytest.raises(LateError), Alarm(0.01, LateError):  # noqa: PT012 - it is about what happens inside
        while True:
            try:
                sleep_for_ever()
            except LateError:
                caught += 1
                if caught == 3:
                    raise
    assert caught == 3


def test_what_ends_in_time_is_left_alone() -> None:
    with Alarm(60, LateError):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
    with pytest.raises(KeyError), Alarm(1e300, LateError):
        raise KeyError


def test_in_another_thread_nothing_happens() -> None:
    found: list[object] = []

    def work() -> None:
        with Alarm(0.001, LateError):
            time.sleep(0.02)
            found.append((signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [((0.0, 0.0), signal.getsignal(signal.SIGALRM))]


def test_an_alarm_of_somebody_else_goes_off_afterwards() -> None:
    rung: list[int] = []

    def ring(number: int, frame: FrameType | None) -> None:
        rung.append(number)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with Alarm(60, LateError):
            time.sleep(0.03)
            assert rung == []
        while not rung:
            time.sleep(0.001)
        signal.setitimer(signal.ITIMER_REAL, 60, 7)
        with Alarm(60, LateError):
            pass
        left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (rung, interval) == ([signal.SIGALRM], 7.0)
    assert 50 < left <= 60


def test_a_context_is_left_whole() -> None:
    switched: list[str] = []

    @contextmanager
    def slow_switch() -> Iterator[None]:
        switched.append("on")
        try:
            yield
        finally:
            for _ in range(20):
                time.sleep(0.002)
            switched.append("off")

    with pytest.raises(LateError), Alarm(0.005, LateError):  # noqa: PT012 - it is about what happens inside
        with slow_switch():
            pass
        assert switched == ["on", "off"]
        sleep_for_ever()
    assert switched == ["on", "off"]


def test_a_context_that_hangs_is_interrupted_all_the_same() -> None:
    class Stuck:
        def __enter__(self) -> None:
            sleep_for_ever()

        def __exit__(self, *exception: object) -> None: ...

    with pytest.raises(LateError), Alarm(0.005, LateError), Stuck():
        pass


def test_a_signal_on_its_way_when_the_context_ends_winds_up_nothing() -> None:
    one = Alarm(60, LateError)
    with one:
        pass
    one._ring(signal.SIGALRM, None)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
