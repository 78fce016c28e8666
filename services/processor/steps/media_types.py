"""Media types that the steps distinguish."""

OCTET_STREAM = "application/octet-stream"
PDF = "application/pdf"
PLAIN_TEXT = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
XHTML = "application/xhtml+xml"
XML = "application/xml"
RTF = "application/rtf"
EMAIL = "message/rfc822"
ZIP = "application/zip"
OLE = "application/x-ole-storage"

_OOXML = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."

DOCX = _OOXML + "wordprocessingml.document"
XLSX = _OOXML + "spreadsheetml.sheet"
PPTX = _OOXML + "presentationml.presentation"
ODT = _ODF + "text"
ODS = _ODF + "spreadsheet"
EPUB = "application/epub+zip"

PNG = "image/png"
JPEG = "image/jpeg"
GIF = "image/gif"
TIFF = "image/tiff"
BMP = "image/bmp"
WEBP = "image/webp"

OFFICE = frozenset({DOCX, XLSX, PPTX, ODT, ODS, EPUB})
"""Documents that are zip archives."""

IMAGES = frozenset({PNG, JPEG, GIF, TIFF, BMP, WEBP})

MARKUP = frozenset({HTML, XHTML, MARKDOWN})
"""Text with markup."""

_TEXTUAL = frozenset(
    {
        EMAIL,
        RTF,
        XML,
        "application/javascript",
        "application/json",
        "application/toml",
        "application/x-latex",
        "application/x-ndjson",
        "application/yaml",
    }
)


def is_textual(content_type: str) -> bool:
    """Return True if files of this type are plain text, readable in any editor."""
    return (
        content_type.startswith("text/")
        or content_type in _TEXTUAL
        or content_type.endswith(("+json", "+xml", "+yaml"))
    )
