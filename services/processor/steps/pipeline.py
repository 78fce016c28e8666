"""Which steps a file of which type goes through."""

from services.processor.steps.demo import DEMO_TYPE, demo
from services.processor.steps.document import Context, Document, Step


def pipeline_for(content_type: str) -> tuple[Step, ...]:
    """The steps for files of `content_type`, in order."""
    if content_type == DEMO_TYPE:
        return (demo,)
    return ()


def run_pipeline(document: Document, context: Context) -> Document:
    """Do all that is to be done with `document`; each step reports its own progress.

    Raises:
        PermanentError: the file cannot be processed.
        TransientError: it could not be processed this time.
    """
    for step in pipeline_for(document.content_type):
        document = step(document, context)
    return document
