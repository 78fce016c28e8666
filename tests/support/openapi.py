"""Holding an API against its OpenAPI document: what that allows, and what it forbids, is sent."""

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
"""Changes a request, of whose kind it is the one with that number, before it is sent; returns the
checks that its answer need not pass."""


def check_all(address: str, prepare: Prepare, *, examples: int, endless: str | None = None) -> int:
    """Ask for every operation; returns how many there are.

    Args:
        examples: requests of each operation and mode.
        endless: a path that answers for as long as the client listens, which is left out.
    """
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    asked = schema if endless is None else schema.exclude(path=endless)
    operations = list(asked.get_all_operations())
    for found in operations:
        assert isinstance(found, Ok)
        _check(found.ok(), GenerationMode.POSITIVE, prepare, examples)
        with suppress(Unsatisfiable):  # Without parameters, nothing is forbidden.
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
