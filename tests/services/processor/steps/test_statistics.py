"""Characters, words and lines are counted, and the language is detected if it is certain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.processor.steps.statistics import count_text, detect_language


@pytest.mark.parametrize(
    ("text", "characters", "words", "lines"),
    [
        ("", 0, 0, 0),
        ("one", 3, 1, 1),
        ("one\n", 4, 1, 1),
        ("one two\n\nthree", 14, 3, 3),
        (" \t ", 3, 0, 1),
    ],
)
def test_a_text_is_counted(text: str, characters: int, words: int, lines: int) -> None:
    assert count_text(text) == {"characters": characters, "words": words, "lines": lines}


@given(st.lists(st.text("abcäß", min_size=1), min_size=1))
def test_words_are_what_is_between_blanks(words: list[str]) -> None:
    assert count_text(" ".join(words))["words"] == len(words)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The parcel was handed over to the driver this morning.", "eng"),
        ("Früher lag jeder Sendung ein Frachtbrief bei.", "deu"),
        ("Bonjour tout le monde, comment allez-vous aujourd'hui?", "fra"),
        ("これは日本語の文章です。よろしくお願いします。", "jpn"),
        ("42", None),
    ],
)
def test_the_language_is_told_where_that_is_sure(text: str, language: str | None) -> None:
    assert detect_language(text) == language
