"""Images are measured and their text is recognized, in every format and color mode."""

import io

import pypdfium2
import pytest
from PIL import Image, ImageChops

from services.processor.steps import image, ocr
from services.processor.steps.media_types import PNG, TIFF
from services.processor.steps.ocr import in_lines
from tests.services.processor.steps import documents
from tests.services.processor.steps.processing import Processing
from waybill.samples import picture_sample
from waybill.samples.pdf import write_pdf


def label() -> Image.Image:
    return Image.open(io.BytesIO(picture_sample().content))


@pytest.mark.parametrize("format_", ["JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_every_format_is_read(processing: Processing, format_: str) -> None:
    document = processing.run(documents.scanned(format_), f"image/{format_.lower()}")
    assert "WAYBILL\nFrom: your browser" in (document.text or "")
    assert (document.statistics["width"], document.statistics["height"]) == label().size


def test_only_the_size_is_told_where_reading_images_is_off(processing: Processing) -> None:
    processing.context.ocr = False
    document = processing.run(picture_sample().content, PNG)
    assert document.statistics == {"width": 800, "height": 380}
    assert processing.context.artifacts == {}


def test_every_page_of_a_tiff_is_read(processing: Processing) -> None:
    document = processing.run(documents.scanned("TIFF", [label(), label()]), TIFF)
    assert (document.text or "").count("WAYBILL") == 2
    assert document.statistics["pages"] == 2


def test_of_a_long_tiff_the_first_pages_are_read_and_that_is_told(
    processing: Processing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "MAX_PAGES", 2)
    pages = [documents.blank_picture() for _ in range(5)]
    statistics = processing.run(documents.scanned("TIFF", pages), TIFF).statistics
    assert (statistics["pages"], statistics["ocr_pages_skipped"]) == (5, 3)


def test_dark_text_on_nothing_is_read(processing: Processing) -> None:
    ink = Image.new("RGBA", label().size, "black")
    ink.putalpha(ImageChops.invert(label().convert("L")))
    assert "WAYBILL" in processing.text(documents.scanned("PNG", [ink]), PNG)


def test_sixteen_bits_of_grey_are_read(processing: Processing) -> None:
    grey = label().convert("I").point(lambda value: value * 257).convert("I;16")
    assert "WAYBILL" in processing.text(documents.scanned("PNG", [grey]), PNG)


def test_a_photograph_is_turned_upright_as_it_says(processing: Processing) -> None:
    turned, buffer = label().rotate(90, expand=True), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    turned.save(buffer, "JPEG", exif=exif)
    assert "From: your browser" in processing.text(buffer.getvalue(), "image/jpeg")


def test_accents_are_read(processing: Processing) -> None:
    words = "Größe, naïve façade, señor"
    with pypdfium2.PdfDocument(write_pdf([words], title="")) as pdf:
        drawn: Image.Image = pdf[0].render(scale=3).to_pil()
    assert processing.text(documents.scanned("PNG", [drawn]), PNG) == words


def test_a_picture_without_text_has_none(processing: Processing) -> None:
    document = processing.run(documents.scanned("PNG", [documents.blank_picture()]), PNG)
    assert document.statistics["words"] == 0
    assert "text.txt" not in processing.context.artifacts


def test_a_picture_of_too_many_pixels_is_refused(processing: Processing) -> None:
    vast = Image.new("1", (10_000, 9_000))
    assert processing.permanent_error(documents.scanned("PNG", [vast]), PNG) == "image_too_large"


def test_a_torn_picture_is_told_as_damaged(processing: Processing) -> None:
    for content_type in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"):
        content = documents.scanned(content_type)
        torn = content[: len(content) // 2]
        code = processing.permanent_error(torn, f"image/{content_type.lower()}")
        assert code == "corrupt_document"


def test_a_lack_of_memory_is_told_as_such(
    processing: Processing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Image.Image) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc")

    monkeypatch.setattr(ocr, "_engine", lambda: fail)
    with pytest.raises(MemoryError):
        processing.run(picture_sample().content, PNG)


def test_pieces_side_by_side_are_one_line() -> None:
    found = [
        ((300.0, 12.0, 400.0, 30.0), "right"),
        ((10.0, 50.0, 100.0, 70.0), "below"),
        ((10.0, 10.0, 100.0, 30.0), "left"),
    ]
    assert in_lines(found) == ["left right", "below"]
