"""Which steps a file of which type goes through."""

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
    """The steps for files of this type, in order; none for a type that nothing can be read in."""
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
    """Do all that is to be done with a file; each step reports its own progress.

    Raises:
        PermanentError: the file cannot be processed.
        TransientError: it could not be processed this time.
    """
    # A demo is what it is declared to be: it has no content to be known by.
    if document.content_type != DEMO_TYPE:
        if document.size == 0:  # There is nothing to read, whatever it is called.
            document.text = ""
            return run_steps((count,), document, context)
        document = identify(document, context)
    return run_steps(pipeline_for(document.content_type), document, context)


def run_steps(steps: Iterable[Step], document: Document, context: Context) -> Document:
    """One step after the other.

    Raises:
        PermanentError: the file cannot be processed, or a step gave back no document.
        TransientError: it could not be processed this time.
    """
    for step in steps:
        context.step = step.__name__
        made = step(document, context)
        if inspect.isawaitable(made):
            made = asyncio.run(_wait_for(made))
        if not isinstance(made, Document):
            raise PermanentError(
                "bad_result",
                f"The step {step.__name__} gave back {type(made).__name__} in place of a "
                "document. Have the step corrected.",
            )
        document = made
    return document


async def _wait_for(made: Awaitable[Document]) -> Document:
    return await made
