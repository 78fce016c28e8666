"""The generated parts of the documentation are current, and what it refers to exists."""

import re
from pathlib import Path

import pytest

from docs.generate import (
    CONFIGURATION,
    EVENTS,
    FORMATS,
    OPERATIONS,
    STREAM,
    configuration,
    events_page,
    formats,
    operations,
    stream,
)

HINT = "run `make docs` and commit what it writes"

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for folder, pattern in ((".", "*.md"), ("docs", "**/*.md"), ("benchmarks", "*.md"))
    for path in (ROOT / folder).glob(pattern)
)
CODE = {
    path.relative_to(ROOT).as_posix()
    for folder in ("shared", "services", "waybill", "tests", "docs", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
}


def test_the_page_of_events_says_what_the_code_says() -> None:
    assert EVENTS.read_text() == events_page(), HINT


def test_the_configuration_table_says_what_the_settings_say() -> None:
    assert CONFIGURATION.read_text() == configuration(CONFIGURATION.read_text()), HINT


def test_the_errors_of_files_are_those_of_the_table() -> None:
    assert FORMATS.read_text() == formats(FORMATS.read_text()), HINT


def test_the_close_codes_are_those_of_the_table() -> None:
    assert STREAM.read_text() == stream(STREAM.read_text()), HINT


def test_the_background_loops_are_those_of_the_tables() -> None:
    assert OPERATIONS.read_text() == operations(OPERATIONS.read_text()), HINT


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_module_that_a_page_names_exists(name: str) -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", (ROOT / name).read_text()))
    assert len(named) > 5
    missing = {each for each in named if not any(f"/{path}".endswith(f"/{each}") for path in CODE)}
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_documentation_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
