"""Tests of an API against its OpenAPI document, with valid and invalid requests."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

Check = Callable[..., bool | None]

Prepare = Callable[[Case[Any], GenerationMode, int], list[Check]]
"""Modifies a request before it is sent, given its generation mode and its number; returns the
checks to skip for its response."""


def check_all(address: str, prepare: Prepare, *, examples: int, endless: str | None = None) -> int:
    """Test every operation and return the number of operations.

    Args:
        examples: number of requests per operation and mode.
        endless: path with an endless response, which is skipped.
    """
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    tested = schema if endless is None else schema.exclude(path=endless)
    operations = list(tested.get_all_operations())
    for found in operations:
        assert isinstance(found, Ok)
        _check(found.ok(), GenerationMode.POSITIVE, prepare, examples)
        with suppress(Unsatisfiable):  # Without parameters, there are no invalid requests.
            _check(found.ok(), GenerationMode.NEGATIVE, prepare, examples)
    return len(operations)


def _check(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    prepare: Prepare,
    examples: int,
) -> None:
    numbers = count()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def every_answer_conforms(case: Case[Any]) -> None:
        allowed = prepare(case, mode, next(numbers))
        case.call_and_validate(timeout=10, excluded_checks=allowed)

    every_answer_conforms()
