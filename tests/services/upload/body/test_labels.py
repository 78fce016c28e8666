"""Labels are read from a request's fields, and limited in number and length."""

import pytest

from services.upload.body.labels import MAX_LABELS, read_labels
from shared.errors import BadParameterError


def test_only_fields_with_the_prefix_are_labels() -> None:
    fields = [("name", "a.txt"), ("label.project", "apollo"), ("label.a.b-c_1", "")]

    assert read_labels(fields) == {"project": "apollo", "a.b-c_1": ""}


def test_the_last_of_equal_keys_counts() -> None:
    assert read_labels([("label.a", "1"), ("label.a", "2")]) == {"a": "2"}


def test_repeating_a_key_does_not_use_up_the_bound() -> None:
    assert len(read_labels([("label.a", "x")] * (MAX_LABELS + 1))) == 1


@pytest.mark.parametrize("key", ["", "a b", "a:b", "ü", ".a", "-a", "k" * 64, "a\n"])
def test_a_key_that_could_not_be_searched_for_is_refused(key: str) -> None:
    with pytest.raises(BadParameterError, match="is not a label"):
        read_labels([(f"label.{key}", "x")])


@pytest.mark.parametrize("value", ["x" * 257, "a\x00", "a\u202e", "a\nb"])
def test_a_value_that_could_not_be_shown_is_refused(value: str) -> None:
    with pytest.raises(BadParameterError, match="printable"):
        read_labels([("label.a", value)])


def test_a_value_may_be_any_words() -> None:
    assert read_labels([("label.a", "Größe: 报告 👍")]) == {"a": "Größe: 报告 👍"}
