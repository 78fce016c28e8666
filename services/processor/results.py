"""Validate the results of the work on a file before they leave the worker.

Results that cannot be stored, published or sent are refused with the permanent code `bad_result`,
whose message names the field and what is wrong with it. Texts that only explain (messages, codes)
are cleaned instead.
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
"""Characters of an error's code and of its description: every status carries them."""

MAX_STATISTICS = 256 << 10
"""Characters of all statistics of one file: every status and every list carries them."""

MAX_SHOWN = 80
"""Characters of a wrong key that a message shows."""


_NAME = re.compile(ARTIFACT_NAME)


def bad_result(meaning: str) -> PermanentError:
    """The error of a step that leaves what is no result.

    Args:
        meaning: names the field and says what is wrong with it.
    """
    message = failure("bad_result", f"A step gave back what is no result: {meaning}.").message
    return PermanentError("bad_result", message[:MAX_DETAIL])


def checked_statistics(statistics: object) -> dict[str, Statistic]:
    """Return the statistics as plain values that can be stored.

    Raises:
        PermanentError: `bad_result`, or `result_too_large`.
    """
    if not isinstance(statistics, Mapping):
        raise bad_result(f"statistics is of type {type(statistics).__name__}, and not a dict")
    checked: dict[str, Statistic] = {}
    size = 0
    for key, value in statistics.items():
        where = _field(key)
        if not isinstance(key, str):
            raise bad_result(f"{where}: the key is of type {type(key).__name__}, and not a str")
        if len(key) > MAX_KEY:
            raise bad_result(f"{where}: the key has more than {MAX_KEY} characters")
        if fault := key_fault(key) or text_fault(key, blanks=False):
            raise bad_result(f"{where}: the key {fault}")
        checked[key] = plain = _plain(where, value)
        size += len(key) + (len(plain) if isinstance(plain, str) else 8)
        if size > MAX_STATISTICS:
            raise PermanentError("result_too_large", failure("result_too_large").message)
    return checked


def _field(key: object) -> str:
    """Return the name of a statistic in messages."""
    is_word = isinstance(key, str) and key.isascii() and key.isidentifier()
    return f"statistics.{key:.{MAX_SHOWN}}" if is_word else f"statistics[{_shown(key)}]"


def _plain(where: str, value: object) -> Statistic:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # A text of megabytes is too large, whatever it holds.
        if len(value) <= MAX_STATISTICS and (fault := text_fault(value)):
            raise bad_result(f"{where} {fault}")
        return value
    # numpy's numbers are such, and no int.
    if isinstance(value, numbers.Integral):
        number: int | float = int(value)
    elif isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:  # a fraction
            raise bad_result(f"{where} is beyond the range of a float") from None
    else:
        raise bad_result(
            f"{where} is of type {type(value).__name__}: give a number, a str, a bool or None"
        )
    if fault := number_fault(number):
        raise bad_result(f"{where} {fault}")
    return number


def checked_artifact(
    name: object, content_type: object, content: object
) -> tuple[str, str, bytes | bytearray]:
    """Return an artifact's name, type and content as they can be stored and sent.

    Raises:
        PermanentError: `bad_result`.
    """
    where = f"artifact {_shown(name)}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad_result(
            f"{where}: a name has 1 to 128 letters, digits, '_', '-' and '.', not first '-' or '.'"
        )
    if not isinstance(content_type, str) or not is_media_type(content_type):
        raise bad_result(
            f"{where}: the content type {_shown(content_type)} cannot be sent in a header; give "
            f"type/subtype, at most {MAX_MEDIA_TYPE} visible characters of ASCII"
        )
    if isinstance(content, str):
        try:
            return name, content_type, content.encode()
        except UnicodeEncodeError as error:
            fault = f"has a lone surrogate at character {error.start}"
            raise bad_result(f"{where}: its text {fault}") from error
    if isinstance(content, bytes | bytearray | memoryview):
        return name, content_type, bytes(content) if isinstance(content, memoryview) else content
    raise bad_result(f"{where}: its content is of type {type(content).__name__}, not bytes or str")


def cleaned(error: Failure) -> Failure:
    """Return a failure with texts that can be published, whoever wrote them."""
    return Failure(
        code=clean_text(error.code, MAX_CODE),
        message=clean_text(error.message, MAX_DETAIL),
        retryable=error.retryable,
    )


def advisory(value: object, limit: int) -> str:
    """The text of anything that only explains, cleaned and cut; "" of nothing or what has none.

    Args:
        limit: characters.
    """
    if value is None:
        return ""
    with contextlib.suppress(BaseException):  # Its own code runs, which may do anything.
        text = value if isinstance(value, str) else str(value)
        return clean_text(text, limit)
    return ""


def _shown(value: object) -> str:
    shown = "of no text"
    if isinstance(value, str | int | float | None):
        with contextlib.suppress(ValueError):  # Python writes no number of more than 4,300 digits.
            shown = ascii(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"
