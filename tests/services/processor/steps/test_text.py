"""Text in any encoding is decoded."""

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.processor.steps.text import MAX_TEXT, decode, unify_lines
from tests.services.processor.steps.processing import Processing

MARKS = ("\ufeff", "\ufffe")


@given(st.text().filter(lambda text: not text.startswith(MARKS)))
def test_utf8_is_read_as_it_was_written(text: str) -> None:
    assert decode(text.encode()) == (text, "utf-8")


@given(st.text().filter(lambda text: not text.startswith((*MARKS, "\x00"))))
@pytest.mark.parametrize(
    ("mark", "written", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8", "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
        (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    ],
)
def test_a_byte_order_mark_is_believed(mark: bytes, written: str, encoding: str, text: str) -> None:
    assert decode(mark + text.encode(written)) == (text, encoding)


@given(st.text("ÄÖÜäöüßéèçñ€“” abc", min_size=1).filter(lambda text: not text.isascii()))
def test_most_of_the_rest_is_windows_1252(text: str) -> None:
    data = text.encode("cp1252")
    decoded, encoding = decode(data)
    assert (decoded, encoding) == (text, "cp1252") or data.decode("utf-8") == decoded


@given(st.binary())
def test_any_bytes_are_some_text(data: bytes) -> None:
    text, _ = decode(data)
    assert isinstance(text, str)
    text.encode(errors="replace")


@given(st.text(min_size=1).filter(lambda text: not text.startswith(MARKS)), st.data())
def test_a_cut_within_a_character_loses_only_that(text: str, data: st.DataObject) -> None:
    encoded = text.encode()
    cut = data.draw(st.integers(min_value=0, max_value=len(encoded)))
    decoded, encoding = decode(encoded[:cut], is_whole=False)
    assert encoding == "utf-8"
    assert text.startswith(decoded)
    assert cut - len(decoded.encode()) < 4


@given(st.text())
def test_lines_end_with_a_line_feed_alone(text: str) -> None:
    unified = unify_lines(text)
    assert "\r" not in unified
    assert unified.split("\n") == text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert unify_lines(unified) == unified


def test_the_encoding_is_told(processing: Processing) -> None:
    document = processing.run("Übung macht den Meister.\r\n".encode("latin-1"), "text/plain")
    assert document.text == "Übung macht den Meister.\n"
    assert document.statistics["encoding"] == "cp1252"


def test_text_of_every_kind_is_taken_as_it_is(processing: Processing) -> None:
    content = b'{"parcels": [1, 2]}\n'
    assert processing.text(content, "application/json") == content.decode()


def test_of_a_very_long_text_the_beginning_is_read_and_that_is_told(
    processing: Processing, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_bytes("Päckchen\n".encode() * (MAX_TEXT // 10 + 1000))
    document = processing.run_file(path, "text/plain")
    assert document.statistics["text_truncated"] is True
    assert len((document.text or "").encode()) <= MAX_TEXT
    assert document.statistics["words"] == pytest.approx(MAX_TEXT / 10, abs=2)
