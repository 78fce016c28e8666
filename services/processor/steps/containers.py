"""Inspect container formats (zip and OLE)."""

import mmap
import struct
import zipfile
import zlib
from pathlib import Path

from services.processor.steps.media_types import DOCX, OFFICE, PPTX, XLSX

_OOXML_FOLDERS = (("word/", DOCX), ("xl/", XLSX), ("ppt/", PPTX))

_MAX_DIRECTORY = 4 << 20
"""Bytes of a zip archive's central directory that are read. A very large office document has a
tenth of that, and an archive of a million files must not exhaust memory."""

_END_RECORD = b"PK\x05\x06"
_END_RECORD_WITHIN = 22 + (1 << 16)
"""Bytes at the end of a zip archive: the end record plus the longest possible comment."""

_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
"""Name of the stream in which Office stores an encrypted document (MS-OFFCRYPTO)."""


def office_type(path: Path) -> str | None:
    """Return the type of the office document in a zip archive, or None.

    Raises:
        zipfile.BadZipFile: the archive is damaged.
    """
    if _directory_size(path) > _MAX_DIRECTORY:
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "mimetype" in names:  # OpenDocument and EPUB state their type.
                with archive.open("mimetype") as file:
                    said = file.read(100).decode("ascii", errors="replace").strip()
                return said if said in OFFICE else None
    except (EOFError, OSError, RuntimeError, ValueError, struct.error, zlib.error) as error:
        raise zipfile.BadZipFile(str(error)) from error
    if "[Content_Types].xml" not in names:
        return None
    for folder, content_type in _OOXML_FOLDERS:
        if any(name.startswith(folder) for name in names):
            return content_type
    return None


def is_encrypted_office(path: Path) -> bool:
    """Return True if an OLE file is a password-protected office document."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_ENCRYPTED) >= 0


def _directory_size(path: Path) -> int:
    """Return the size of a zip archive's central directory in bytes."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END_RECORD_WITHIN))
        tail = file.read()
    position = tail.rfind(_END_RECORD)
    if position < 0 or len(tail) < position + 16:
        raise zipfile.BadZipFile("the end of the archive is missing")
    directory_size: int = struct.unpack_from("<I", tail, position + 12)[0]
    return directory_size
