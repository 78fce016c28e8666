"""Choose and run the steps for a file's type."""

import asyncio
import inspect
from collections.abc import Awaitable, Iterable

from services.processor.steps.demo import demo
from services.processor.steps.document import Context, Document, Step
from services.processor.steps.extract import read_document, read_markup
from services.processor.steps.identify import identify
from services.processor.steps.image import read_image
from services.processor.steps.media_types import (
    EMAIL,
    IMAGES,
    MARKUP,
    OFFICE,
    PDF,
    RTF,
    is_textual,
)
from services.processor.steps.pdf import read_pdf
from services.processor.steps.statistics import count
from services.processor.steps.text import read_text
from shared.settings import DEMO_TYPE
from shared.workerrors import PermanentError


def pipeline_for(content_type: str) -> tuple[Step, ...]:
    """Return the steps for a type, in order; none for types without readable content."""
    if content_type == DEMO_TYPE:
        return (demo,)
    if content_type == PDF:
        return (read_pdf, count)
    if content_type in IMAGES:
        return (read_image, count)
    if content_type in OFFICE | {EMAIL, RTF}:
        return (read_document, count)
    if content_type in MARKUP:
        return (read_markup, count)
    if is_textual(content_type):
        return (read_text, count)
    return ()


def run_pipeline(document: Document, context: Context) -> Document:
    """Run the built-in pipeline on a file. Each step reports its own progress.

    Raises:
        PermanentError: the file cannot be processed.
        TransientError: the file could not be processed this time.
    """
    # The declared type of a demo decides, since its content has no signature.
    if document.content_type != DEMO_TYPE:
        if document.size == 0:  # An empty file has no content, whatever its type.
            document.text = ""
            return run_steps((count,), document, context)
        document = identify(document, context)
    return run_steps(pipeline_for(document.content_type), document, context)


def run_steps(steps: Iterable[Step], document: Document, context: Context) -> Document:
    """Run steps one after the other.

    Raises:
        PermanentError: the file cannot be processed, or a step did not return a document.
        TransientError: the file could not be processed this time.
    """
    for step in steps:
        context.step = step.__name__
        made = step(document, context)
        if inspect.isawaitable(made):
            made = asyncio.run(_wait_for(made))
        if not isinstance(made, Document):
            raise PermanentError(
                "bad_result",
                f"The step {step.__name__} returned {type(made).__name__} instead of a Document. "
                "Fix the step.",
            )
        document = made
    return document


async def _wait_for(made: Awaitable[Document]) -> Document:
    return await made
