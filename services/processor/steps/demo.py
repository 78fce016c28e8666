"""The demo step: a file that says itself how its processing goes, for trials, tests and benchmarks.

The no-op of the benchmarks is a demo of no seconds, so nothing heavy may be imported here.
"""

import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.processor.steps.document import Context, Document
from services.processor.steps.endings import BAD_ENDS, BadEnd, end_badly
from shared.workerrors import PermanentError, TransientError

_MAX_SIZE = 64 << 10
"""Bytes of a demo file; a real one has about a hundred."""


class Demo(BaseModel):
    """What a demo file says."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    seconds: float = Field(default=0.0, ge=0)
    """How long the work takes, in all its steps together."""
    steps: int = Field(default=1, ge=1, le=1_000_000)
    then: Literal["complete", "fail", "retry"] | BadEnd = "complete"
    """How the work ends."""
    until: int = Field(default=2, ge=1)
    """The attempt at which the end `retry` completes."""


def demo(document: Document, context: Context) -> Document:
    """Take the time that the file asks for, then end as it asks to.

    Raises:
        PermanentError: `bad_demo` if the file is no demo, `demo_failed` as asked.
        TransientError: `demo_retry` as asked.
        BaseException: as asked.
    """
    asked = _read(document)
    _work(asked, context)
    match asked.then:
        case "fail":
            raise PermanentError("demo_failed", "This demo file asked to fail, and so it did.")
        case "retry" if context.attempt < asked.until:
            raise TransientError(
                "demo_retry", f"This demo file asked to fail until attempt {asked.until}."
            )
    if asked.then in BAD_ENDS:
        end_badly(asked.then, document, context)
    document.statistics["steps"] = asked.steps
    if asked.seconds:  # One that does nothing has nothing to show for it.
        context.artifact("demo.json", "application/json", asked.model_dump_json())
    return document


def _read(document: Document) -> Demo:
    if document.size > _MAX_SIZE:
        raise PermanentError("bad_demo", f"A demo file has at most {_MAX_SIZE} bytes.")
    try:
        return Demo.model_validate_json(document.path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(each) for each in first["loc"]) or "the file"
        raise PermanentError(
            "bad_demo", f"This is not a demo file: {where}: {first['msg']}."
        ) from None


def _work(asked: Demo, context: Context) -> None:
    if not asked.seconds:
        return  # There is nothing to follow, and a benchmark does not want to pay for it.
    context.progress(0, asked.steps, phase="working")
    for done in range(1, asked.steps + 1):
        time.sleep(asked.seconds / asked.steps)
        context.progress(done, asked.steps, phase="working")
