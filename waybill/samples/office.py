"""Write minimal office documents (ECMA-376) without a library."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument"

DOCX_TYPE = f"{_MEDIA_TYPE}.wordprocessingml.document"
XLSX_TYPE = f"{_MEDIA_TYPE}.spreadsheetml.sheet"

Row = Sequence[str | int]


def write_docx(paragraphs: Sequence[str], *, title: str, table: Sequence[Row] = ()) -> bytes:
    """Return a Word document with a title, paragraphs and an optional table at the end."""
    body = _paragraph(title, style="Title") + "".join(_paragraph(each) for each in paragraphs)
    if table:
        grid = f"<w:tblGrid>{'<w:gridCol/>' * len(table[0])}</w:tblGrid>"
        rows = "".join(_table_row(row) for row in table)
        # A document must not end with a table, so an empty paragraph follows.
        body += f"<w:tbl><w:tblPr/>{grid}{rows}</w:tbl>{_paragraph('')}"
    document = f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>'
    return _package(
        main=("word/document.xml", f"{DOCX_TYPE}.main+xml", document),
        title=title,
    )


def write_xlsx(sheets: Mapping[str, Sequence[Row]], *, title: str) -> bytes:
    """Return an Excel workbook with the named sheets."""
    numbered = list(enumerate(sheets.items(), start=1))
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{number}" r:id="rId{number}"/>'
        for number, (name, _) in numbered
    )
    workbook = (
        f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}/relationships">'
        f"<sheets>{listed}</sheets></workbook>"
    )
    return _package(
        main=("xl/workbook.xml", f"{XLSX_TYPE}.main+xml", workbook),
        parts=[
            (
                f"xl/worksheets/sheet{number}.xml",
                f"{_MEDIA_TYPE}.spreadsheetml.worksheet+xml",
                f'<worksheet xmlns="{_SHEET}"><sheetData>'
                f"{''.join(_sheet_row(row) for row in rows)}</sheetData></worksheet>",
            )
            for number, (_, rows) in numbered
        ],
        relations={
            "xl/_rels/workbook.xml.rels": [
                (f"{_OFFICE}/relationships/worksheet", f"worksheets/sheet{number}.xml")
                for number, _ in numbered
            ]
        },
        title=title,
    )


def _package(
    *,
    main: tuple[str, str, str],
    title: str,
    parts: Sequence[tuple[str, str, str]] = (),
    relations: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> bytes:
    """Return the zip archive of an office document. A part is a path, a media type and XML."""
    core = (
        "docProps/core.xml",
        "application/vnd.openxmlformats-package.core-properties+xml",
        f'<cp:coreProperties xmlns:cp="{_PACKAGE}/metadata/core-properties" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(title)}</dc:title>'
        "<dc:creator>Waybill</dc:creator></cp:coreProperties>",
    )
    all_parts = [main, core, *parts]
    overrides = "".join(
        f'<Override PartName="/{path}" ContentType="{media_type}"/>'
        for path, media_type, _ in all_parts
    )
    entries = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>',
        "_rels/.rels": _relations(
            [
                (f"{_OFFICE}/relationships/officeDocument", main[0]),
                (f"{_PACKAGE}/relationships/metadata/core-properties", core[0]),
            ]
        ),
    }
    entries |= {path: _relations(each) for path, each in (relations or {}).items()}
    entries |= {path: content for path, _, content in all_parts}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in entries.items():
            # An explicit ZipInfo has a fixed date, so that the same document has the same bytes.
            archive.writestr(zipfile.ZipInfo(path), _XML + content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _relations(targets: Sequence[tuple[str, str]]) -> str:
    listed = "".join(
        f'<Relationship Id="rId{number}" Type="{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, start=1)
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{listed}</Relationships>'


def _paragraph(text: str, *, style: str | None = None) -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{properties}<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'


def _table_row(row: Row) -> str:
    cells = "".join(f"<w:tc><w:tcPr/>{_paragraph(str(cell))}</w:tc>" for cell in row)
    return f"<w:tr>{cells}</w:tr>"


def _sheet_row(row: Row) -> str:
    return f"<row>{''.join(_sheet_cell(cell) for cell in row)}</row>"


def _sheet_cell(cell: str | int) -> str:
    if isinstance(cell, int):
        return f"<c><v>{cell}</v></c>"
    return f'<c t="inlineStr"><is><t>{escape(cell)}</t></is></c>'
