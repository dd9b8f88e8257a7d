"""Small image tasks for the tests of this room."""

from small_images import digits, one_thread

__all__ = ["digits", "one_thread"]
