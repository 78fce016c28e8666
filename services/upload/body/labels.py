"""Labels: short key-value pairs that clients attach to files and filter by."""

import re
from collections.abc import Iterable

from shared.errors import BadParameterError

PREFIX = "label."
"""Prefix of form fields and query parameters that carry a label: `label.<key>`."""

MAX_LABELS = 16
MAX_VALUE = 256
"""Characters of a label's value. Every status of a file contains its labels, so they are short."""

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


def read_labels(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the labels among a request's fields. The last of equal keys wins.

    Raises:
        BadParameterError: There are too many labels, or a key or value is invalid.
    """
    labels = {}
    for name, value in fields:
        if name.startswith(PREFIX):
            labels[_checked_key(name)] = _checked_value(name, value)
    if len(labels) > MAX_LABELS:
        raise BadParameterError(f"The request has {len(labels)} labels; the limit is {MAX_LABELS}.")
    return labels


def _checked_key(name: str) -> str:
    key = name.removeprefix(PREFIX)
    if not _KEY.fullmatch(key):
        raise BadParameterError(
            f"{name[:80]!r} is not a label: a key has 1 to 63 letters, digits, '_', '.' or '-'."
        )
    return key


def _checked_value(name: str, value: str) -> str:
    if len(value) > MAX_VALUE or not value.isprintable():
        raise BadParameterError(
            f"The value of {name!r} must be at most {MAX_VALUE} printable characters."
        )
    return value
