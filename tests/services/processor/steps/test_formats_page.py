"""The formats page matches the code."""

import re
from pathlib import Path

import services.processor.steps
from services.processor.failures import KINDS
from services.processor.steps.demo_failures import DEMO_FAILURES
from shared.errors import BlobStoreUnavailableError, StorageFullError

STEPS = Path(services.processor.steps.__file__).parent
PAGE = (STEPS.parents[2] / "docs" / "formats.md").read_text()
SOURCES = "\n".join(
    path.read_text() for path in STEPS.parent.rglob("*.py") if path.name != "failures.py"
)


def test_every_error_that_is_raised_or_told_is_in_the_table() -> None:
    raised = re.findall(r'(Permanent|Transient)Error\(\s*"(\w+)"', SOURCES)
    assert len(raised) > 5
    for kind, code in raised:
        assert KINDS[code].retryable == (kind == "Transient"), code
    told = re.findall(r'code="(\w+)".+?retryable=(True|False)', SOURCES, re.DOTALL)
    assert len(told) > 2
    for code, retryable in told:
        assert KINDS[code].retryable == (retryable == "True"), code


def test_every_error_of_the_table_is_used_somewhere() -> None:
    unused = {code for code in KINDS if f'"{code}"' not in SOURCES}
    assert unused == {BlobStoreUnavailableError.code, StorageFullError.code}


def test_every_bad_end_is_on_the_page() -> None:
    assert {how for how in DEMO_FAILURES if f"`{how}`" not in PAGE} == set()


def test_the_page_of_formats_tells_every_statistic() -> None:
    names = re.findall(r'statistics\["(\w+)"\]', SOURCES)
    assert len(names) > 5
    assert {name for name in names if f"`{name}`" not in PAGE} == {"steps", "huge"}
