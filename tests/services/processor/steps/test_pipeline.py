"""Files of every type run through the right steps, at no unnecessary cost."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from services.processor.steps.pipeline import pipeline_for
from shared.settings import DEMO_TYPE
from shared.workerrors import PermanentError
from tests.services.processor.steps.processing import Processing
from waybill.samples import SampleFile, picture_sample, sample_files

DOCUMENTS = [each for each in sample_files() if each.content_type != DEMO_TYPE]

WORDS = {
    "how-a-file-travels.pdf": ["identifier of its own", "three services", "sample to its end."],
    "delivery-note.docx": [
        "Delivery note",
        "missed a stop on the way, open the history",
        "weighed, labelled",
    ],
    "topics-and-statuses.xlsx": ["file.uploaded new files 12", "Statuses", "somebody asked"],
    "welcome.html": ["Welcome to the depot", "Small parcels overtake large ones."],
    "notes-of-a-dispatcher.md": ["Notes of a dispatcher", "leaves anew", "It is only late."],
    "deliveries.eml": ["Deliveries of this morning", "the night shift", "pictures,processing"],
    "parcel-label.png": ["WAYBILL\nFrom: your browser\n", "Please handle with care"],
    "frachtbrief.txt": ["Früher lag jeder Sendung", "höfliche, aber ungefähre Antwort."],
}

HEAVY = ["PIL", "cv2", "kreuzberg", "numpy", "onnxruntime", "puremagic", "pypdfium2", "rapidocr"]


@pytest.mark.parametrize("sample", DOCUMENTS, ids=lambda sample: sample.name)
def test_the_text_of_every_sample_is_read_counted_and_kept(
    processing: Processing, sample: SampleFile
) -> None:
    document = processing.run(sample.content, sample.content_type)
    for words in WORDS[sample.name]:
        assert words in (document.text or "")
    assert document.content_type == sample.content_type
    assert "identified_type" not in document.statistics
    assert document.statistics["characters"] == len(document.text or "")
    assert document.statistics["language"] == ("deu" if "fracht" in sample.name else "eng")
    content_type, content = processing.context.artifacts["text.txt"]
    assert content_type == "text/plain; charset=utf-8"
    assert content.decode() == document.text


def test_the_phases_are_told_in_order(processing: Processing) -> None:
    sample = sample_files()[0]
    processing.run(sample.content, sample.content_type)
    assert processing.context.phases == ["identifying", "extracting", "counting"]
    assert all(done <= total for _, done, total in processing.context.reports)


def test_what_a_document_says_about_itself_is_kept(processing: Processing) -> None:
    sample = sample_files()[0]
    processing.run(sample.content, sample.content_type)
    content_type, content = processing.context.artifacts["metadata.json"]
    assert content_type == "application/json"
    assert json.loads(content)["title"] == "How a file travels"


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "video/mp4", "application/zip", "font/woff2"]
)
def test_a_type_that_nothing_can_be_read_in_has_no_steps(content_type: str) -> None:
    assert pipeline_for(content_type) == ()


@pytest.mark.parametrize(
    ("head", "content_type"),
    [
        (os.urandom(64), "application/octet-stream"),
        (b"PK\x03\x04", "application/zip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
    ],
    ids=["noise", "zip", "ole", "mp4"],
)
def test_a_large_binary_file_completes_at_once_and_in_little_memory(
    processing: Processing, tmp_path: Path, head: bytes, content_type: str
) -> None:
    path = tmp_path / "large"
    path.write_bytes(head)
    os.truncate(path, 300 << 20)
    processing.run(b"\x00" * 100, "application/octet-stream")  # triggers lazy imports
    tracemalloc.start()
    try:
        document = processing.run_file(path, content_type)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert document.text is None
    assert processing.context.artifacts == {}


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, services.processor.steps.pipeline;"
        f"print([each for each in {HEAVY} if each in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]"


STAYS_HOME = """
import sys
from pathlib import Path
from services.processor.steps.document import Document
from services.processor.steps.pipeline import run_pipeline
from tests.services.processor.steps.processing import FakeContext
from waybill.samples import sample_files
from shared.settings import DEMO_TYPE

def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        raise SystemExit(f"{event}: {args}")

sys.addaudithook(watch)
folder = Path(sys.argv[1])
for sample in sample_files():
    if sample.content_type != DEMO_TYPE:
        path = folder / sample.name
        path.write_bytes(sample.content)
        document = Document(path=path, content_type=sample.content_type, size=len(sample.content))
        run_pipeline(document, FakeContext(folder))
"""


def test_no_sample_makes_a_library_call_out_write_to_the_home_or_say_a_word(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # Libraries with telemetry are silent if these variables are set, as in CI.
    told_to_be_quiet = {"CI", "ORT_DISABLE_TELEMETRY"}
    environment = {key: value for key, value in os.environ.items() if key not in told_to_be_quiet}
    result = subprocess.run(
        [sys.executable, "-c", STAYS_HOME, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env=environment | {"HOME": str(home), "XDG_CACHE_HOME": str(home)},
    )
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert "RapidOCR" not in result.stderr
    assert list(home.rglob("*")) == []


def test_errors_tell_what_to_do_and_show_no_internals(processing: Processing) -> None:
    with pytest.raises(PermanentError) as caught:
        processing.run(picture_sample().content[:500], "image/png")
    assert caught.value.detail == (
        "The file is damaged: it cannot be read as image/png. "
        "Open it with the program that created it, save it again and upload the new copy."
    )


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/pdf", "image/png", "application/octet-stream"]
)
def test_an_empty_file_has_an_empty_text_whatever_its_type(
    processing: Processing, content_type: str
) -> None:
    document = processing.run(b"", content_type)
    assert document.text == ""
    assert document.statistics == {"characters": 0, "words": 0, "lines": 0}
    assert processing.context.artifacts == {}
