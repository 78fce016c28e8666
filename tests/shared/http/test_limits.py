"""The documented limits match the code."""

import re
from pathlib import Path

from shared.http import limits

DOCUMENT = Path(__file__).parents[3] / "docs" / "limits.md"


def test_every_limit_is_documented_with_its_figure() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d,]+)", DOCUMENT.read_text(), re.MULTILINE)
    documented = {name: float(figure.replace(",", "")) for name, figure in rows}
    figures = {name: value for name, value in vars(limits).items() if name.isupper()}

    assert documented == figures
