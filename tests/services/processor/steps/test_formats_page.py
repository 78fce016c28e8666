"""The page of formats keeps up with the code."""

import re
from pathlib import Path

import services.processor.steps

STEPS = Path(services.processor.steps.__file__).parent
PAGE = (STEPS.parents[2] / "docs" / "formats.md").read_text()
SOURCES = "\n".join(path.read_text() for path in STEPS.glob("*.py"))


def test_the_page_of_formats_tells_every_error() -> None:
    codes = re.findall(r'(?:Permanent|Transient)Error\(\s*"(\w+)"', SOURCES)
    assert len(codes) > 5
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()


def test_the_page_of_formats_tells_every_statistic() -> None:
    names = re.findall(r'statistics\["(\w+)"\]', SOURCES)
    assert len(names) > 5
    assert {name for name in names if f"`{name}`" not in PAGE} == {"steps"}
