"""Documents that are not suitable as samples: protected, scanned, or in rare formats."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence

from PIL import Image

from waybill.samples import picture_sample
from waybill.samples.pdf import assemble_pdf

_PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
_ALL_PERMISSIONS = (-4).to_bytes(4, "little", signed=True)
_FILE_ID = bytes(16)


def zipped(entries: Mapping[str, str | bytes]) -> bytes:
    """Build a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def protected_pdf(text: str, *, opened_by: str) -> bytes:
    """Build a PDF with the oldest protection, RC4 with 40 bits (ISO 32000, 7.6.3).

    With an empty password it is still encrypted, but every reader opens it.
    """
    owner = _rc4(_md5(_padded("owner"))[:5], _padded(opened_by))
    secret = _padded(opened_by) + owner + _ALL_PERMISSIONS + _FILE_ID
    key = _md5(secret)[:5]
    content_id = 4
    content_key = _md5(key + bytes([content_id, 0, 0, 0, 0]))[:10]
    stream = _rc4(content_key, b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % text.encode("latin-1"))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>"
        % (owner.hex().encode(), _rc4(key, _PADDING).hex().encode()),
    ]
    return assemble_pdf(
        objects, trailer=f"/Root 1 0 R /Encrypt 6 0 R /ID [<{_FILE_ID.hex()}> <{_FILE_ID.hex()}>]"
    )


def protected_docx() -> bytes:
    """Build the start of an OLE file with the stream that holds an encrypted document."""
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\x00")
    return header + "EncryptedPackage".encode("utf-16-le").ljust(512, b"\x00")


def scanned(format_: str, pages: Sequence[Image.Image] | None = None) -> bytes:
    """Save the sample image, or the given pages, in a format that Pillow writes."""
    first, *others = pages or [Image.open(io.BytesIO(picture_sample().content))]
    buffer = io.BytesIO()
    first.save(buffer, format_, **({"save_all": True, "append_images": others} if others else {}))
    return buffer.getvalue()


def blank_picture() -> Image.Image:
    """Build a small white page."""
    return Image.new("L", (200, 200), "white")


def odt(text: str) -> bytes:
    """Build an OpenDocument text."""
    namespace = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<office:document-content xmlns:office="{namespace}:office:1.0" '
        f'xmlns:text="{namespace}:text:1.0"><office:body><office:text>'
        f"<text:p>{text}</text:p></office:text></office:body></office:document-content>"
    )
    return zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def ods(text: str) -> bytes:
    """Build an OpenDocument spreadsheet with one cell."""
    namespace = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<office:document-content xmlns:office="{namespace}:office:1.0" '
        f'xmlns:table="{namespace}:table:1.0" xmlns:text="{namespace}:text:1.0"><office:body>'
        '<office:spreadsheet><table:table table:name="Sheet"><table:table-row>'
        f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'
        "</table:table-row></table:table></office:spreadsheet></office:body>"
        "</office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = '<manifest xmlns="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
    return zipped({"mimetype": kind, "content.xml": content, "META-INF/manifest.xml": manifest})


def pptx(text: str) -> bytes:
    """Build a presentation with one slide."""
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    spaces = (
        'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        f'xmlns:r="{office}" '
        'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
    )

    def relation(kind: str, target: str) -> str:
        return (
            f'<Relationships xmlns="{package}/relationships">'
            f'<Relationship Id="rId1" Type="{office}/{kind}" Target="{target}"/></Relationships>'
        )

    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
            "_rels/.rels": relation("officeDocument", "ppt/presentation.xml"),
            "ppt/presentation.xml": f'<p:presentation {spaces}><p:sldIdLst><p:sldId id="256" '
            'r:id="rId1"/></p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": relation("slide", "slides/slide1.xml"),
            "ppt/slides/slide1.xml": f"<p:sld {spaces}><p:cSld><p:spTree><p:sp><p:txBody><a:p><a:r>"
            f"<a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld></p:sld>",
        }
    )


def epub(text: str) -> bytes:
    """Build a book with one chapter."""
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": "<container "
            'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/>'
            "</rootfiles></container>",
            "book.opf": '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
            '<item id="one" href="one.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="one"/></spine></package>',
            "one.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><body>'
            f"<p>{text}</p></body></html>",
        }
    )


def docx_bomb() -> bytes:
    """Build a Word document of a few hundred kilobytes that unpacks to 200 MB."""
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    text = "a" * (200 << 20)
    body = f"<w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body>"
    document = f'<w:document xmlns:w="{space}">{body}</w:document>'
    return zipped({"[Content_Types].xml": "<Types/>", "word/document.xml": document})


def _padded(password: str) -> bytes:
    return (password.encode("latin-1") + _PADDING)[:32]


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    other = 0
    for one in range(256):
        other = (other + state[one] + key[one % len(key)]) % 256
        state[one], state[other] = state[other], state[one]
    out, one, other = bytearray(), 0, 0
    for byte in data:
        one = (one + 1) % 256
        other = (other + state[one]) % 256
        state[one], state[other] = state[other], state[one]
        out.append(byte ^ state[(state[one] + state[other]) % 256])
    return bytes(out)


def boundless_xlsx() -> bytes:
    """Build a workbook of 1.4 KB whose two cells span a sheet that needs 549 GB of memory."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"

    def relation(target: str, kind: str) -> str:
        return (
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
            f'Type="{office}/{kind}" Target="{target}"/></Relationships>'
        )

    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
            '<Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/>'
            "</Types>",
            "_rels/.rels": relation("xl/workbook.xml", "officeDocument"),
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}">'
            '<sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relation("worksheets/sheet1.xml", "worksheet"),
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}">'
            '<dimension ref="A1:XFD1048576"/><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
            '<row r="1048576"><c r="XFD1048576"><v>2</v></c></row></sheetData></worksheet>',
        }
    )
