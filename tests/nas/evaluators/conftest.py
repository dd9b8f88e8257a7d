"""Small image tasks for the tests of this room."""

from shared_runs import make
from small_images import digit_task, digits, one_thread

__all__ = ["digit_task", "digits", "make", "one_thread"]
