"""Draw images that contain text, for OCR."""

import io
from collections.abc import Sequence

_SIZE = 36
"""Font size in pixels, large enough for reliable OCR."""

_LEADING = 60
_MARGIN = 40


def write_png(lines: Sequence[str], *, width: int = 800) -> bytes:
    """Return a PNG of a label with these lines."""
    # Imported here because Pillow loads slowly and other commands do not need it.
    from PIL import Image, ImageDraw, ImageFont

    height = 2 * _MARGIN + _LEADING * len(lines)
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((10, 10, width - 11, height - 11), outline="black", width=4)
    font = ImageFont.load_default(size=_SIZE)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + _LEADING * number), line, fill="black", font=font)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
