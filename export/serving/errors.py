"""What may go wrong while a bundle is served: before the start, and with a request."""

from typing import final


@final
class ServingError(RuntimeError):
    """The bundle cannot be served as it was asked for; the message says what, the rule and the cure."""


@final
class RequestError(Exception):
    """A request is refused: `code` is its HTTP status, the message one sentence for `{"error": …}`."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def first_line(error: BaseException) -> str:
    """The first line of a message that was written for a log."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
