"""The labels that a client gives to its files: short words to find them by."""

import re
from collections.abc import Iterable

from shared.errors import BadParameterError

PREFIX = "label."
"""A form field or query parameter `label.<key>` carries a label."""

MAX_LABELS = 16
MAX_VALUE = 256
"""Characters. Labels travel in every status of a file, so they stay small."""

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


def read_labels(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The labels among a request's fields; the last of equal keys counts.

    Raises:
        BadParameterError: too many labels, a key or a value that cannot be used.
    """
    labels = {}
    for name, value in fields:
        if name.startswith(PREFIX):
            labels[_checked_key(name)] = _checked_value(name, value)
    if len(labels) > MAX_LABELS:
        raise BadParameterError(f"The request has {len(labels)} labels; at most {MAX_LABELS} fit.")
    return labels


def _checked_key(name: str) -> str:
    key = name.removeprefix(PREFIX)
    if not _KEY.fullmatch(key):
        raise BadParameterError(
            f"{name[:80]!r} is no label: a key has 1 to 63 letters, digits, '_', '.' or '-'."
        )
    return key


def _checked_value(name: str, value: str) -> str:
    if len(value) > MAX_VALUE or not value.isprintable():
        raise BadParameterError(
            f"The value of {name!r} must be at most {MAX_VALUE} printable characters."
        )
    return value
