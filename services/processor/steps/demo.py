"""The demo step: a file that specifies its own processing, for trials, tests and benchmarks.

Benchmarks use a demo of zero seconds as a no-op, so this module must not import anything heavy.
"""

import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.processor.steps.demo_failures import DEMO_FAILURES, DemoFailure, fail_as_requested
from services.processor.steps.document import Context, Document
from shared.workerrors import PermanentError, TransientError

_MAX_SIZE = 64 << 10
"""Bytes of a demo file; a typical one has about a hundred."""


class Demo(BaseModel):
    """The content of a demo file."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    seconds: float = Field(default=0.0, ge=0)
    """Duration of the work in seconds, over all steps."""
    steps: int = Field(default=1, ge=1, le=1_000_000)
    then: Literal["complete", "fail", "retry"] | DemoFailure = "complete"
    """How processing ends."""
    until: int = Field(default=2, ge=1)
    """The attempt on which `retry` completes."""


def demo(document: Document, context: Context) -> Document:
    """Work for the requested time, then end as requested.

    Raises:
        PermanentError: `bad_demo` if the file is not a valid demo; `demo_failed` on request.
        TransientError: `demo_retry` on request.
        BaseException: on request.
    """
    asked = _read(document)
    _work(asked, context)
    match asked.then:
        case "fail":
            raise PermanentError("demo_failed", "This demo file failed, as it requested.")
        case "retry" if context.attempt < asked.until:
            raise TransientError(
                "demo_retry", f"This demo file fails until attempt {asked.until}, as it requested."
            )
    if asked.then in DEMO_FAILURES:
        fail_as_requested(asked.then, document, context)
    document.statistics["steps"] = asked.steps
    if asked.seconds:  # A demo of zero seconds produces no artifact.
        context.artifact("demo.json", "application/json", asked.model_dump_json())
    return document


def _read(document: Document) -> Demo:
    if document.size > _MAX_SIZE:
        raise PermanentError("bad_demo", f"The demo file exceeds {_MAX_SIZE} bytes.")
    try:
        return Demo.model_validate_json(document.path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(each) for each in first["loc"]) or "the file"
        raise PermanentError(
            "bad_demo", f"This is not a valid demo file: {where}: {first['msg']}."
        ) from None


def _work(asked: Demo, context: Context) -> None:
    if not asked.seconds:
        return  # Progress reports would slow down benchmarks.
    context.progress(0, asked.steps, phase="working")
    for done in range(1, asked.steps + 1):
        time.sleep(asked.seconds / asked.steps)
        context.progress(done, asked.steps, phase="working")
