from pathlib import Path

import pytest

from tests.services.processor.steps.processing import FakeContext, Processing


@pytest.fixture
def processing(tmp_path: Path) -> Processing:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Processing(tmp_path, FakeContext(scratch))
