"""What a stage prints: passed on to the terminal as it is, and cut into plain lines for the log and for messages."""

import codecs
import errno
import os
import re
import sys
import termios
from collections import deque
from collections.abc import Callable
from typing import TextIO, final

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_OURS = "nasflow: "  # how a stage's own message begins; it may have several lines, the cause first and the advice last
_TRACEBACK = "Traceback (most recent call last)"
_SHELL = re.compile(r"(\S+: line \d+: +\d+ )?(Killed|Terminated)\b")  # some shells say so themselves, below what the stage said
_LINES = 12
_ERROR = re.compile(r"(error\b|\w+(\.\w+)*(Error|Exception)\b)", re.IGNORECASE)


def pair(terminal: TextIO) -> tuple[int, int]:
    """Where to read and where a stage writes: a terminal of the same size when ours is one, so that it draws what it would draw."""
    if not terminal.isatty():
        return os.pipe()
    ours, theirs = os.openpty()
    settings = termios.tcgetattr(theirs)
    settings[1] &= ~termios.OPOST  # our own terminal adds the carriage returns
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    size = os.get_terminal_size(terminal.fileno())
    termios.tcsetwinsize(theirs, (size.lines, size.columns))
    return ours, theirs


def read(output: int) -> bytes:
    """The next bytes that were written; empty when every writer has closed its end."""
    try:
        return os.read(output, 65536)
    except OSError as error:
        if error.errno != errno.EIO:  # how the kernel says that the other end of a terminal is closed
            raise
        return b""


def last_error_of_dvc(text: str) -> str:
    """The last error among the lines that DVC has written, or else its last line."""
    lines = [line for line in text.splitlines() if line.startswith("ERROR")] or text.strip().splitlines()[-1:]
    return lines[-1].removeprefix("ERROR: ") if lines else "DVC said nothing"


@final
class Printed:
    """Writes what it is fed to standard output, and gives every plain line to `on_line`."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._tail: deque[str] = deque(maxlen=200)

    def feed(self, data: bytes) -> None:
        """Pass on the next bytes, wherever a line or a character is cut."""
        text = self._decoder.decode(data)
        sys.stdout.write(text)
        sys.stdout.flush()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._keep(line)

    def end(self) -> None:
        """Nothing follows: what is left is a line."""
        if self._rest:
            self._keep(self._rest)
        self._rest = ""

    def last_error(self) -> str:
        """The last message: a stage's own from its first line on, else from the last line that names an error, without the frames."""
        lines = [line for line in self._tail if line.strip()]
        while len(lines) > 1 and _SHELL.match(lines[-1]):
            lines.pop()
        crashed = max((index for index, line in enumerate(lines) if line.startswith(_TRACEBACK)), default=-1)
        ours = [index for index, line in enumerate(lines) if line.startswith(_OURS) and index > crashed]
        named = ours or [index for index, line in enumerate(lines) if _ERROR.match(line)]
        message = lines[named[-1] :] if named else lines[-1:]
        if len(message) > _LINES:
            message = [*message[: _LINES - 1], message[-1]] if ours else message[:_LINES]
        return "\n".join(message).removeprefix(_OURS)

    def _keep(self, line: str) -> None:
        line = _COLOUR.sub("", line.rstrip("\r"))
        if "\r" in line or "\x1b" in line:
            return  # a redrawn progress line, not text
        self._tail.append(line)
        if self._on_line is not None:
            self._on_line(line)
