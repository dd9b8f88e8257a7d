"""What this room raises when the data, not the program, are at fault."""


class DataError(ValueError):
    """Data that cannot be used: one sentence with the value, the rule it breaks and the cure."""


class UnreachableError(DataError):
    """Data that could not be fetched now; the same may succeed later."""
