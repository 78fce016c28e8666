"""`waybill upload` explains rejections in terms of its own options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from waybill.cli.files import upload_all
from waybill.client import Client
from waybill.errors import RefusedError


class Refusing:
    """A client whose service rejects every file."""

    def __init__(self, error: RefusedError) -> None:
        self._error = error

    def upload(self, _: Path, **__: Any) -> Mapping[str, str]:
        raise self._error

    upload_direct = upload


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("empty_file", "✗ a.txt: the file is empty; add --allow-empty to upload it"),
        ("too_large", "✗ a.txt: send a file, or `allow_empty=true`"),
    ],
)
def test_an_empty_file_is_refused_with_the_option_of_the_command(
    code: str, told: str, direct: bool
) -> None:
    refusing = Refusing(RefusedError(code, "send a file, or `allow_empty=true`"))
    console = Console(width=200)
    with console.capture() as captured:
        done = upload_all(
            cast("Client", refusing),
            [Path("a.txt")],
            labels={},
            content_type=None,
            wait=False,
            direct=direct,
            console=console,
        )
    assert done is False
    assert told in captured.get().splitlines()
