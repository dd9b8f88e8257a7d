"""Tables in markdown, as Prefect shows them."""

import html
import textwrap

_LETTERS = 62
"""Of a line in a cell."""


def cell(value: object) -> str:
    """A cell in which no text can become markup. Prefect does not break the lines of a cell, so long ones are broken here."""
    lines = [part for line in str(value).splitlines() for part in textwrap.wrap(line, _LETTERS) or [""]]
    return "<br>".join(html.escape(line, quote=False).replace("|", "\\|") for line in lines)
