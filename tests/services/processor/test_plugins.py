"""Plugins are selected by file, report configuration errors, and match their documentation."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.processor import plugins
from services.processor.channel import Advanced, Broken, Done, Job
from services.processor.isolation.limits import Limits
from services.processor.plugins import (
    MAX_SETTINGS,
    Pipeline,
    PluginError,
    command_step,
    http_step,
    load_plugins,
    pipeline,
)
from services.processor.settings import ProcessorSettings
from services.processor.steps.document import Document
from services.processor.workers import WorkerPool, WorkerPools
from shared.blobs.blobs import BlobStore
from shared.events.events import FileCompleted, FileProcessing
from shared.events.topics import LIFECYCLE
from shared.kafka.publishing import Publisher
from tests.services.processor.jobs import ignore
from tests.services.processor.pods import processing_pod, types_of, upload
from tests.support.consuming import consume

PAGE = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text()
EXAMPLES = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)

MORE = """
import asyncio, socket
from services.processor.plugins import pipeline, step

@step(names=["*.async"])
async def wait(document, context):
    await asyncio.sleep(0.01)
    document.statistics["waited"] = True
    return document

@step(names=["*.none"])
def forget(document, context):
    pass

@step(names=["*.slow"], time_limit=0.2)
def sleep(document, context):
    import time
    time.sleep(30)

@step(names=["*.big"], memory_limit=100 << 20)
def grow(document, context):
    bytearray(200 << 20)
    return document

def reach(document, context):
    with socket.create_connection(("127.0.0.1", int(document.path.read_text())), timeout=5):
        document.statistics["reached"] = True
    return document

pipeline("inside", reach, names=["*.inside"])
pipeline("outside", reach, names=["*.outside"], network=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for modules; their registrations are removed afterwards."""
    monkeypatch.setattr(plugins, "_registered", {})
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


@asynccontextmanager
async def pools(folder: Path, *, network: bool = False) -> AsyncIterator[WorkerPools]:
    limits = Limits(memory=512 << 20)

    def pool(name: str, limits: Limits) -> WorkerPool:
        (folder / name).mkdir()
        return WorkerPool(size=1, folder=folder / name, limits=limits, time_limit=10)

    both = WorkerPools(
        pool("usual", limits), pool("net", replace(limits, network=True)) if network else None
    )
    await both.start()
    yield both
    await both.stop()


def job(folder: Path, module: str, name: str, content: str = "", **known: str) -> Job:
    """Build the job that a pod creates for a file with a module's plugins."""
    path = folder / name
    path.write_text(content)
    pipelines = load_plugins([module])
    kind = known.pop("content_type", "a/b")
    chosen = pipelines.choose(content_type=kind, name=name, labels=known)
    return Job(
        source=str(path),
        scratch=str(folder / f"scratch-{name}"),
        content_type=kind,
        size=len(content),
        run=1,
        attempt=1,
        ocr=False,
        plugin=pipelines.job_of(chosen.name if chosen else None),
    )


async def test_the_plugin_of_the_page_works_as_the_page_says(folder: Path) -> None:
    (folder / "statements.py").write_text(EXAMPLES[0])
    code = [line for line in EXAMPLES[0].splitlines() if line]
    assert len(code) <= 10
    known = {"content_type": "text/csv", "kind": "statement"}
    asked = job(folder, "statements", "june.csv", "date;sum\n1;2\n3;4\n", **known)
    told: list[Advanced] = []
    async with pools(folder) as both:
        outcome = await both.run(asked, told.append)
    assert isinstance(outcome, Done), outcome
    assert outcome.statistics == {"rows": 3}
    ((artifact, content),) = outcome.contents(asked.scratch)
    assert (artifact.name, content) == ("first.txt", b"date;sum")
    assert (told[-1].phase, told[-1].progress.done) == ("count_rows", 3)


def test_the_second_plugin_of_the_page_has_its_settings_and_its_limits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "scans.py").write_text(EXAMPLES[1])
    monkeypatch.setenv("WAYBILL_SCANS_LANGUAGE", "deu")
    asked = job(folder, "scans", "A.SCAN").plugin
    assert asked is not None
    assert (asked.network, asked.seconds, asked.memory) == (True, 300, 1 << 30)
    assert asked.settings == '{"language":"deu"}'
    monkeypatch.setenv("WAYBILL_SCANS_LANGUAGE", "German")
    with pytest.raises(PluginError, match=r"pipeline scans: WAYBILL_SCANS_LANGUAGE: .*pattern"):
        load_plugins(["scans"])


LONG = """
from pydantic import BaseModel

from services.processor.plugins import pipeline


class Words(BaseModel):
    words: str


def search(document, context):
    return document


pipeline("search", search, names=["*.txt"], settings=Words)
"""


def test_settings_that_are_too_long_for_a_job_are_refused_at_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "long_settings.py").write_text(LONG)
    monkeypatch.setenv("WAYBILL_SEARCH_WORDS", "x" * (MAX_SETTINGS - 20))
    load_plugins(["long_settings"])
    monkeypatch.setenv("WAYBILL_SEARCH_WORDS", "x" * MAX_SETTINGS)
    with pytest.raises(PluginError, match=r"search: the settings exceed 64 KiB"):
        load_plugins(["long_settings"])


async def test_steps_may_be_asynchronous_and_wrong_ones_are_told(folder: Path) -> None:
    (folder / "more.py").write_text(MORE)
    async with pools(folder) as both:
        waited = await both.run(job(folder, "more", "a.async"), ignore)
        assert isinstance(waited, Done), waited
        assert waited.statistics == {"waited": True}
        codes = []
        for name in ("a.none", "a.slow", "a.big"):
            outcome = await both.run(job(folder, "more", name), ignore)
            assert isinstance(outcome, Broken), outcome
            codes.append(outcome.error.code)
    assert codes == ["bad_result", "timed_out", "out_of_memory"]


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
async def test_only_a_pipeline_that_declares_it_reaches_the_network(folder: Path) -> None:
    (folder / "more.py").write_text(MORE)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    async with server, pools(folder, network=True) as both:
        outside = await both.run(job(folder, "more", "a.outside", port), ignore)
        assert isinstance(outside, Done), outside
        (process,) = both._usual._workers
        if not process.in_namespace:
            pytest.skip("this kernel or container forbids namespaces")
        inside = await both.run(job(folder, "more", "a.inside", port), ignore)
        assert isinstance(inside, Broken)


async def test_a_pipeline_that_this_pod_lacks_is_left_to_another_try(folder: Path) -> None:
    (folder / "more.py").write_text(MORE)
    asked = job(folder, "more", "a.async")
    assert asked.plugin is not None
    asked.plugin.pipeline = "elsewhere"
    async with pools(folder) as both:
        outcome = await both.run(asked, ignore)
    assert isinstance(outcome, Broken)
    assert (outcome.error.code, outcome.error.retryable) == ("pipeline_missing", True)


def same(document: Document, _: plugins.Context) -> Document:
    return document


@pytest.mark.parametrize(
    ("content_type", "name", "labels", "chosen"),
    [
        ("image/png", "a.png", {}, "pictures"),
        ("text/plain", "REPORT.CSV", {}, "tables"),
        ("text/plain", "a.txt", {"kind": "bill", "year": "2026"}, "bills"),
        ("text/plain", "a.txt", {"kind": "letter"}, None),
        ("image/png", "a.csv", {}, "pictures"),
    ],
)
def test_a_pipeline_is_chosen_by_type_name_or_label(
    content_type: str, name: str, labels: dict[str, str], chosen: str | None
) -> None:
    pipeline("pictures", same, content_types=["image/*"])
    pipeline("tables", same, names=["*.csv"])
    pipeline("bills", same, labels={"kind": "bill"})
    found = load_plugins().choose(content_type=content_type, name=name, labels=labels)
    assert (found.name if found else None) == chosen


def test_all_kinds_of_rules_that_are_given_must_match() -> None:
    made = pipeline("both", same, content_types=["text/csv"], labels={"kind": "bill"})
    assert isinstance(made, Pipeline)
    assert made.takes(content_type="text/csv", name="", labels={"kind": "bill"})
    assert not made.takes(content_type="text/csv", name="", labels={})
    assert not made.takes(content_type="a/b", name="", labels={"kind": "bill"})


def test_a_plugin_that_cannot_be_used_says_which_one_and_why(folder: Path) -> None:
    (folder / "broken_plugin.py").write_text("1 / 0")
    with pytest.raises(PluginError, match=r"plugin broken_plugin cannot .*ZeroDivisionError"):
        load_plugins(["broken_plugin"])
    with pytest.raises(PluginError, match=r"plugin not_there cannot .*No module named"):
        load_plugins(["not_there"])
    with pytest.raises(PluginError, match="set content_types, names or labels"):
        pipeline("any", same)
    with pytest.raises(PluginError, match="set network=True"):
        pipeline("offline", http_step("http://127.0.0.1:9/"), names=["*"])
    pipeline("one", command_step(["true"]), names=["*"])
    with pytest.raises(PluginError, match="the name is taken"):
        pipeline("one", same, names=["*"])


FLAKY = """
from services.processor.plugins import TransientError, step

@step(names=["demo.json"], max_attempts=2, time_limit=1800)
def flaky(document, context):
    if context.attempt == 1:
        raise TransientError("not_yet", "Not yet.")
    document.statistics["flaky"] = True
    return document
"""


async def test_a_retry_goes_through_the_pipeline_that_was_chosen_by_the_name(
    folder: Path,
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
) -> None:
    (folder / "flaky_plugin.py").write_text(FLAKY)
    file_id = await upload(publisher, blobs)
    async with processing_pod(processor_settings, plugins=("flaky_plugin",)):
        events = await consume(processor_settings, LIFECYCLE, 4)
    assert types_of(events, file_id) == ["processing", "retrying", "processing", "completed"]
    completed = events[-1]
    assert isinstance(completed, FileCompleted)
    assert completed.data.max_attempts == 2
    limits = [each.data.time_limit for each in events if isinstance(each, FileProcessing)]
    assert limits == [1800, 1800]
    assert completed.data.result.statistics == {"flaky": True}


def test_plugins_are_named_by_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYBILL_PLUGINS", "statements, scans")
    assert ProcessorSettings().plugins == ("statements", "scans")
