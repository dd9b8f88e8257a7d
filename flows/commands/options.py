"""Commands with more options than a function may have arguments: the options are the fields of a record."""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints


class Record(Protocol):
    """A dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


R = TypeVar("R", bound=Record)


def command(record: type[R], function: Callable[[R], None]) -> Callable[..., None]:
    """What typer takes for a command: `function`, called with a `record` of what was typed.

    record: a dataclass; its fields are annotated as typer wants arguments to be, and those without a default are required.
    """

    def called(**options: Any) -> None:
        function(record(**options))

    hints = get_type_hints(record, include_extras=True)
    parameters = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=_default(field.default), annotation=hints[field.name])
        for field in fields(record)
    ]
    called.__doc__ = function.__doc__
    called.__annotations__ = hints
    # typer reads a command from its signature, and asks for nothing else.
    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return called


def _default(value: Any) -> Any:
    return Parameter.empty if value is MISSING else value
