"""The isolation of a worker process, observed from outside through /proc."""

import asyncio
import ctypes
import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import REGISTRY

from services.processor.channel import Done
from services.processor.isolation import configured
from services.processor.isolation.cell import prepare_isolation
from services.processor.isolation.limits import MAX_DESCRIPTORS, MAX_PROCESSES, Limits
from services.processor.isolation.rung import REMEDIES, Layer, Policy, Rung, refusal, rung_of
from services.processor.settings import ProcessorSettings
from services.processor.workers import WorkerPool
from tests.services.processor.jobs import demo, ignore
from tests.services.processor.stranger.attacks import HARMLESS

PR_SET_CHILD_SUBREAPER = 36

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and /proc are Linux's")


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[WorkerPool]:
    folder = tmp_path / "pool"
    folder.mkdir()
    limits = Limits(memory=512 << 20, files=3)
    pool = WorkerPool(size=1, folder=folder, limits=limits, time_limit=10)
    await pool.start()
    yield pool
    await pool.stop()


def worker_of(pool: WorkerPool) -> Path:
    """Return the /proc directory of the process that does the work."""
    (process,) = pool._workers
    if not process.in_namespace:
        pytest.skip("this kernel or container forbids namespaces")
    *_, innermost = psutil.Process(process.pid).children(recursive=True)
    return Path("/proc") / str(innermost.pid)


def links_of(process: Path) -> list[str]:
    return [str(each.readlink()) for each in (process / "fd").iterdir()]


def status_of(process: Path) -> dict[str, str]:
    lines = (process / "status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


async def test_a_worker_holds_no_descriptor_but_its_own(pool: WorkerPool) -> None:
    worker = worker_of(pool)
    held = {each.name: str(each.readlink()) for each in (worker / "fd").iterdir()}
    assert held.pop("0") == "/dev/null"
    assert held.pop("1").startswith("pipe:")
    assert held.pop("2").startswith("pipe:")
    channel, queue = held.values()
    assert channel.startswith("socket:")
    assert queue.startswith("socket:")


async def test_no_descriptor_of_the_keepers_holds_the_sockets_open(pool: WorkerPool) -> None:
    worker = worker_of(pool)
    sockets = {link for link in links_of(worker) if "socket" in link}
    (process,) = pool._workers
    keeper = psutil.Process(process.pid)
    for each in [keeper, *keeper.children()]:
        assert sockets.isdisjoint(links_of(Path(f"/proc/{each.pid}")))


async def test_a_worker_knows_no_secret_of_the_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forkserver._forkserver._stop()  # type: ignore[attr-defined] # the next one has the secrets
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("WAYBILL_MONGODB", "mongodb://user:hush@somewhere")
    pool = WorkerPool(size=1, folder=tmp_path, limits=Limits(memory=512 << 20), time_limit=10)
    await pool.start()
    worker = worker_of(pool)
    (process,) = pool._workers
    server = psutil.Process(process.pid).ppid()
    assert b"hush" in Path(f"/proc/{server}/environ").read_bytes()
    environment = (worker / "environ").read_bytes()
    await pool.stop()
    for secret in (b"hush", b"WAYBILL", b"AWS"):
        assert secret not in environment


async def test_a_worker_has_a_network_and_processes_of_its_own(pool: WorkerPool) -> None:
    worker = worker_of(pool)
    for kind in ("net", "pid", "user", "ipc"):
        ours = Path("/proc/self/ns") / kind
        assert (worker / "ns" / kind).readlink() != ours.readlink(), kind
    interfaces = (worker / "net" / "dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    assert (worker / "net" / "route").read_text().splitlines()[1:] == []


async def test_a_worker_has_given_up_every_privilege(pool: WorkerPool) -> None:
    status = status_of(worker_of(pool))
    assert status["NoNewPrivs"] == "1"
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh")} == {"0" * 16}


async def test_a_worker_has_its_limits(pool: WorkerPool) -> None:
    lines = (worker_of(pool) / "limits").read_text().splitlines()
    limits = {line[:26].strip(): tuple(line[26:].split()[:2]) for line in lines}
    for name, most in {
        "Max core file size": 0,
        "Max data size": 512 << 20,
        "Max file size": Limits(memory=0).file,
        "Max open files": MAX_DESCRIPTORS,
        "Max processes": MAX_PROCESSES,
    }.items():
        assert limits[name] == (str(most), str(most)), name


async def test_a_worker_has_a_directory_of_its_own_that_goes_with_it(
    pool: WorkerPool, tmp_path: Path
) -> None:
    worker = worker_of(pool)
    (folder,) = (tmp_path / "pool").iterdir()
    assert (worker / "cwd").readlink() == folder / "tmp"
    await pool.stop()
    assert list((tmp_path / "pool").iterdir()) == []


async def test_a_worker_is_replaced_after_its_number_of_files(
    pool: WorkerPool, tmp_path: Path
) -> None:
    (first,) = pool._workers
    for number in range(7):
        assert isinstance(await pool.run(demo(tmp_path / f"{number}"), ignore), Done)
    (third,) = pool._workers
    assert third.pid != first.pid
    assert not psutil.pid_exists(first.pid or 0)
    assert not list((tmp_path / "pool").glob("worker-[12]"))


async def test_a_worker_is_replaced_when_it_has_grown(tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    limits = Limits(memory=512 << 20, growth=1)
    pool = WorkerPool(size=1, folder=folder, limits=limits, time_limit=10)
    await pool.start()
    (first,) = pool._workers
    assert isinstance(await pool.run(demo(tmp_path / "a"), ignore), Done)
    assert isinstance(await pool.run(demo(tmp_path / "b"), ignore), Done)
    assert first not in pool._workers
    await pool.stop()


async def test_no_process_of_a_worker_outlives_its_kill(pool: WorkerPool, tmp_path: Path) -> None:
    worker_of(pool)
    (process,) = pool._workers
    family = psutil.Process(process.pid).children(recursive=True)
    running = asyncio.create_task(pool.run(demo(tmp_path / "a", then="hang"), ignore))
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.wait({running})
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


@pytest.fixture
def first_process() -> Iterator[psutil.Process]:
    """Make this process adopt orphans, like process 1 of a container."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield psutil.Process()
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


async def test_a_worker_that_is_killed_leaves_nobody_to_bury(
    pool: WorkerPool, tmp_path: Path, first_process: psutil.Process
) -> None:
    worker_of(pool)
    before = {*first_process.children()}
    for number in range(3):
        job = demo(tmp_path / f"{number}", then="hang")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await pool.run(job, ignore)
    orphans = {*first_process.children()} - before
    assert [each.status() for each in orphans] == []


KINDS = {
    "root": "namespaces",
    "user": "namespaces",
    "docker-root": "landlock",
    "docker-user": "landlock",
}
"""Environments of a pod and the isolation level reached there; see `stranger.contained`."""


def found_in(kind: str) -> dict[str, Any]:
    """Run the attacking plugin in an environment and return its results."""
    if os.getuid() != 0:
        pytest.skip("only root can make these surroundings")
    command = [sys.executable, "-m", "tests.services.processor.stranger.contained", kind]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stranger_gets_nothing(kind: str) -> None:
    found = await asyncio.to_thread(found_in, kind)
    assert found["rung"] == KINDS[kind], found["missing"]
    assert found["succeeded"] == {}
    assert found["tried"] > 60
    assert found["uid"] > 0
    assert found["source_is_whole"]
    assert list(found["keys"].values()) == ["an API ke"]
    assert all(said.startswith("refused") for said in found["left"].values()), found["left"]
    assert found["lingering"] == {"found": [], "alive": []}


async def test_a_stranger_who_is_not_isolated_gets_all_of_it() -> None:
    found = await asyncio.to_thread(found_in, "open")
    assert found["rung"] == "none"
    assert found["succeeded"].keys() == set(HARMLESS)


FILTERED = """
import os, resource, signal
from services.processor.isolation import seccomp
pod = os.getppid()
for network in (True, False):
    seccomp.install(
        seccomp.Filter(
            network=network,
            has_own_processes=False,
            shares_user=True,
            has_own_signals=False,
            may_truncate=False,
        )
    )
os.kill(os.getpid(), 0)
resource.getrlimit(resource.RLIMIT_CORE)
os.sched_setaffinity(0, os.sched_getaffinity(0))
os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
for refused in (
    lambda: os.kill(pod, 0),
    lambda: os.kill(-1, 0),
    lambda: resource.prlimit(pod, resource.RLIMIT_CORE),
    lambda: os.sched_setaffinity(pod, {0}),
    lambda: os.setpriority(os.PRIO_USER, 0, 19),
    lambda: os.chmod("/", 0o755),
    lambda: os.truncate("/dev/null", 0),
    lambda: os.setsid(),
):
    try:
        refused()
    except PermissionError:
        continue
    raise SystemExit("one call was not refused")
try:
    signal.raise_signal(signal.SIGTERM)
finally:
    raise SystemExit("the signal to itself was refused")
"""


def test_a_filter_stands_in_for_what_an_old_kernel_lacks() -> None:
    ended = subprocess.run([sys.executable, "-c", FILTERED], check=False, capture_output=True)
    assert ended.returncode == -signal.SIGTERM, ended


@pytest.mark.parametrize(
    ("missing", "rung", "starts"),
    [
        ((), Rung.NAMESPACES, True),
        ((Layer.NAMESPACES,), Rung.LANDLOCK, True),
        ((Layer.LANDLOCK,), Rung.NONE, False),
        ((Layer.SECCOMP,), Rung.NONE, False),
        ((Layer.USER,), Rung.NONE, False),
        (tuple(Layer), Rung.NONE, False),
    ],
)
def test_a_pod_starts_only_if_strangers_can_be_kept_out(
    missing: tuple[Layer, ...], rung: Rung, starts: bool
) -> None:
    assert rung_of(missing) is rung
    refused = refusal(Policy.REQUIRE, missing)
    assert (refused is None) is starts
    if refused:
        assert all(REMEDIES[layer] in refused for layer in missing)
    assert refusal(Policy.PREFER, missing) is None
    assert refusal(Policy.OFF, missing) is None


async def test_a_pod_that_cannot_isolate_workers_does_not_start(
    tmp_path: Path,
) -> None:
    missing = await asyncio.to_thread(found_without_landlock, tmp_path)
    assert "landlock" in missing["missing"]
    assert not missing["starts"]


def test_a_pod_that_has_no_room_to_try_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(configured, "missing_here", fail)
    settings = ProcessorSettings(scratch=str(tmp_path), isolation=Policy.REQUIRE)
    with pytest.raises(SystemExit, match=r"No space left on device.*WAYBILL_SCRATCH"):
        configured.refuse_unless_isolated(settings)


def found_without_landlock(folder: Path) -> dict[str, Any]:
    """Run the check with Landlock's system calls denied and return its report."""
    program = (
        "import runpy, sys\n"
        "from services.processor.isolation import landlock\n"
        "landlock._RESTRICT_SELF = 9999\n"
        "sys.argv[1:] = ['--check']\n"
        "runpy.run_module('services.processor.isolation', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "WAYBILL_SCRATCH": str(folder)},
    )
    assert done.returncode == 1, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize(
    ("policy", "rung", "said"),
    [(Policy.OFF, Rung.NONE, "NOT isolated"), (Policy.PREFER, Rung.NAMESPACES, "namespaces")],
)
async def test_the_log_and_a_metric_tell_how_well_workers_are_isolated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: Policy, rung: Rung, said: str
) -> None:
    isolation = prepare_isolation(policy, hidden=[tmp_path])
    limits = Limits(memory=512 << 20)
    pool = WorkerPool(size=1, folder=tmp_path, limits=limits, time_limit=10, isolation=isolation)
    with caplog.at_level(logging.INFO):
        await pool.start()
    reached = rung_of(pool.missing)
    await pool.stop()
    if policy is Policy.PREFER and reached is not rung:
        pytest.skip(f"this machine allows the rung {reached} only")
    assert said in caplog.text
    told = {each: REGISTRY.get_sample_value(METRIC, {"rung": each}) for each in Rung}
    assert told == {each: float(each is rung) for each in Rung}


METRIC = "waybill_isolation_rung"
