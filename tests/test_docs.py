"""The generated parts of the documentation are current."""

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
