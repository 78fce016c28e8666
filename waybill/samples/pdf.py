"""Write minimal PDF files: pages of plain text in a standard font."""

from collections.abc import Sequence
from itertools import accumulate

_A4 = (595, 842)
_MARGIN = 72
_SIZE = 12
_LEADING = 18
"""All sizes are in points (1/72 inch)."""


def write_pdf(pages: Sequence[str], *, title: str) -> bytes:
    """Return a PDF (ISO 32000) with the given pages.

    The text must be Latin-1. Lines and pages are not wrapped, so they must fit.
    """
    content_ids = [5 + 2 * number for number in range(len(pages))]
    kids = " ".join(f"{content_id - 1} 0 R" for content_id in content_ids)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for page, content_id in zip(pages, content_ids, strict=True):
        stream = _text_stream(page)
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_A4[0]} {_A4[1]}] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {content_id} 0 R >>".encode(),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        ]
    objects.append(b"<< /Title (%s) /Producer (Waybill) >>" % _escaped(title))
    return assemble_pdf(objects, trailer=f"/Root 1 0 R /Info {len(objects)} 0 R")


def assemble_pdf(objects: Sequence[bytes], *, trailer: str) -> bytes:
    """Return a PDF file of these objects, numbered from 1, with its cross-reference table.

    Args:
        objects: The objects.
        trailer: Entries of the trailer dictionary except `/Size`.
    """
    header = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
    parts = [b"%d 0 obj\n%s\nendobj\n" % (n, each) for n, each in enumerate(objects, start=1)]
    *offsets, end = accumulate((len(part) for part in parts), initial=len(header))
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return b"".join(
        [
            header,
            *parts,
            b"xref\n0 %d\n0000000000 65535 f \n" % size,
            table,
            b"trailer\n<< /Size %d %s >>\nstartxref\n%d\n" % (size, trailer.encode(), end),
            b"%%EOF\n",
        ]
    )


def _text_stream(page: str) -> bytes:
    top = _A4[1] - _MARGIN
    shown = b"\n".join(b"(%s) '" % _escaped(line) for line in page.strip().splitlines())
    return b"BT\n/F1 %d Tf\n%d TL\n%d %d Td\n%s\nET" % (_SIZE, _LEADING, _MARGIN, top, shown)


def _escaped(text: str) -> bytes:
    for special in "\\()":
        text = text.replace(special, "\\" + special)
    return text.encode("latin-1")
