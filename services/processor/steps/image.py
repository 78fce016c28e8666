"""Read images: their size and, if OCR is enabled, their text."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.processor.steps.document import Context, Document
from services.processor.steps.extract import corrupt
from services.processor.steps.media_types import TIFF
from services.processor.steps.ocr import MAX_PAGES, MAX_SIDE, read_picture
from shared.workerrors import PermanentError

if TYPE_CHECKING:
    from PIL.Image import Image


def read_image(document: Document, context: Context) -> Document:
    """Record the image size and recognize its text; of a TIFF, the text of each page.

    Raises:
        PermanentError: `corrupt_document` or `image_too_large`.
    """
    from PIL import Image

    with _failing_clearly(document):
        picture = Image.open(document.path)
        document.statistics["width"], document.statistics["height"] = picture.size
        # Other formats have frames too, but these are animations, not pages.
        pages = getattr(picture, "n_frames", 1) if document.content_type == TIFF else 1
    if pages > 1:
        document.statistics["pages"] = pages
    with picture:
        if context.ocr:
            _read_pages(picture, pages, document, context)
    return document


def _read_pages(picture: "Image", pages: int, document: Document, context: Context) -> None:
    texts = []
    to_read = min(pages, MAX_PAGES)
    for number in range(to_read):
        context.progress(number, to_read, phase="reading images")
        with _failing_clearly(document):
            picture.seek(number)
            page = _readable(picture)
        texts.append(read_picture(page))
    document.text = "\n\n".join(texts)
    if pages > to_read:
        document.statistics["ocr_pages_skipped"] = pages - to_read


@contextmanager
def _failing_clearly(document: Document) -> Iterator[None]:
    """Convert all of Pillow's errors on an image to one of two failures."""
    from PIL.Image import DecompressionBombError, DecompressionBombWarning

    try:
        with warnings.catch_warnings():
            # Pillow has two limits. It only warns at the first one, which is the limit used here.
            warnings.simplefilter("error", DecompressionBombWarning)
            yield
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise PermanentError(
            "image_too_large",
            "The image has more than 89 million pixels, the limit for images. "
            "Send it at a lower resolution.",
        ) from error
    except (EOFError, OSError, SyntaxError, ValueError, struct.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # A fault of the machine, not of the image.
        raise corrupt(document) from error


def _readable(picture: "Image") -> "Image":
    """Return the image upright, in RGB on white, and scaled down to the size for OCR."""
    from PIL import Image, ImageOps

    picture.draft("RGB", (MAX_SIDE, MAX_SIDE))
    if picture.mode.startswith("I;16"):
        picture = picture.point(lambda value: value / 256).convert("L")
    elif picture.has_transparency_data:
        drawn = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn)
    small = picture.convert("RGB")
    small.thumbnail((MAX_SIDE, MAX_SIDE))
    return ImageOps.exif_transpose(small)
