"""Validate processing results before they leave the worker.

Results that cannot be stored, published or sent are rejected with the permanent code `bad_result`.
Its message names the field and the fault. Explanatory texts (messages, codes) are cleaned instead.
"""

import contextlib
import numbers
import re
from collections.abc import Mapping

from services.processor.channel import ARTIFACT_NAME
from services.processor.failures import failure
from shared.events.facts import Failure
from shared.events.storable import (
    MAX_KEY,
    MAX_MEDIA_TYPE,
    clean_text,
    is_media_type,
    key_fault,
    number_fault,
    text_fault,
)
from shared.workerrors import PermanentError

Statistic = int | float | str | bool | None

MAX_CODE, MAX_DETAIL = 64, 500
"""Characters of an error's code and of its description, which are part of every status."""

MAX_STATISTICS = 256 << 10
"""Characters of all statistics of one file, which are part of every status and every list."""

MAX_SHOWN = 80
"""Characters of an invalid key shown in a message."""


_NAME = re.compile(ARTIFACT_NAME)


def bad_result(meaning: str) -> PermanentError:
    """Return the error for a step with an invalid result.

    Args:
        meaning: the field and what is wrong with it.
    """
    message = failure("bad_result", f"A step returned an invalid result: {meaning}.").message
    return PermanentError("bad_result", message[:MAX_DETAIL])


def checked_statistics(statistics: object) -> dict[str, Statistic]:
    """Return the statistics as plain values that can be stored.

    Raises:
        PermanentError: `bad_result`, or `result_too_large`.
    """
    if not isinstance(statistics, Mapping):
        raise bad_result(f"statistics is of type {type(statistics).__name__} instead of dict")
    checked: dict[str, Statistic] = {}
    size = 0
    for key, value in statistics.items():
        where = _field(key)
        if not isinstance(key, str):
            raise bad_result(f"{where}: the key is of type {type(key).__name__} instead of str")
        if len(key) > MAX_KEY:
            raise bad_result(f"{where}: the key is longer than {MAX_KEY} characters")
        if fault := key_fault(key) or text_fault(key, blanks=False):
            raise bad_result(f"{where}: the key {fault}")
        checked[key] = plain = _plain(where, value)
        size += len(key) + (len(plain) if isinstance(plain, str) else 8)
        if size > MAX_STATISTICS:
            raise PermanentError("result_too_large", failure("result_too_large").message)
    return checked


def _field(key: object) -> str:
    """Return the name of a statistic for messages."""
    is_word = isinstance(key, str) and key.isascii() and key.isidentifier()
    return f"statistics.{key:.{MAX_SHOWN}}" if is_word else f"statistics[{_shown(key)}]"


def _plain(where: str, value: object) -> Statistic:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # A text of megabytes is too large, whatever its content.
        if len(value) <= MAX_STATISTICS and (fault := text_fault(value)):
            raise bad_result(f"{where} {fault}")
        return value
    # These also match numpy's numbers, which are not int or float.
    if isinstance(value, numbers.Integral):
        number: int | float = int(value)
    elif isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:  # a fraction
            raise bad_result(f"{where} exceeds the range of a float") from None
    else:
        raise bad_result(
            f"{where} is of type {type(value).__name__}; use a number, a str, a bool or None"
        )
    if fault := number_fault(number):
        raise bad_result(f"{where} {fault}")
    return number


def checked_artifact(
    name: object, content_type: object, content: object
) -> tuple[str, str, bytes | bytearray]:
    """Return an artifact's name, type and content in a form that can be stored and sent.

    Raises:
        PermanentError: `bad_result`.
    """
    where = f"artifact {_shown(name)}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad_result(
            f"{where}: use 1 to 128 letters, digits, '_', '-' and '.', not starting with '-' or '.'"
        )
    if not isinstance(content_type, str) or not is_media_type(content_type):
        raise bad_result(
            f"{where}: the content type {_shown(content_type)} is not valid in a header; use "
            f"type/subtype with at most {MAX_MEDIA_TYPE} visible ASCII characters"
        )
    if isinstance(content, str):
        try:
            return name, content_type, content.encode()
        except UnicodeEncodeError as error:
            fault = f"has a lone surrogate at character {error.start}"
            raise bad_result(f"{where}: its text {fault}") from error
    if isinstance(content, bytes | bytearray | memoryview):
        return name, content_type, bytes(content) if isinstance(content, memoryview) else content
    raise bad_result(
        f"{where}: its content is of type {type(content).__name__} instead of bytes or str"
    )


def cleaned(error: Failure) -> Failure:
    """Return a failure whose texts can be published, whatever their origin."""
    return Failure(
        code=clean_text(error.code, MAX_CODE),
        message=clean_text(error.message, MAX_DETAIL),
        retryable=error.retryable,
    )


def advisory(value: object, limit: int) -> str:
    """Return an explanatory value as cleaned, shortened text; "" if it has none.

    Args:
        limit: maximum number of characters.
    """
    if value is None:
        return ""
    with contextlib.suppress(BaseException):  # `__str__` is the step's code and may do anything.
        text = value if isinstance(value, str) else str(value)
        return clean_text(text, limit)
    return ""


def _shown(value: object) -> str:
    shown = "of no text"
    if isinstance(value, str | int | float | None):
        with contextlib.suppress(ValueError):  # Python formats at most 4,300 digits.
            shown = ascii(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"
