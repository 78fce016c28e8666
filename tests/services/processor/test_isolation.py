"""What a worker process is kept from, seen from outside through /proc."""

import asyncio
import ctypes
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest

from services.processor.channel import Done
from services.processor.isolation import MAX_DESCRIPTORS, MAX_PROCESSES, Limits
from services.processor.workers import WorkerPool
from tests.services.processor.jobs import demo, ignore

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
    """The directory in /proc of the process that does the work."""
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
    forkserver._forkserver._stop()  # type: ignore[attr-defined] # the next one knows the secrets
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
    pid = int(worker_of(pool).name)
    limits = {
        psutil.RLIMIT_CORE: 0,
        psutil.RLIMIT_DATA: 512 << 20,
        psutil.RLIMIT_FSIZE: Limits(memory=0).file,
        psutil.RLIMIT_NOFILE: MAX_DESCRIPTORS,
        psutil.RLIMIT_NPROC: MAX_PROCESSES,
    }
    for kind, most in limits.items():
        assert psutil.Process(pid).rlimit(kind) == (most, most)


async def test_a_worker_has_a_directory_of_its_own_that_goes_with_it(
    pool: WorkerPool, tmp_path: Path
) -> None:
    worker = worker_of(pool)
    (folder,) = (tmp_path / "pool").iterdir()
    assert (worker / "cwd").readlink() == folder
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
    """This process as one that orphans come to, like the first one of a container."""
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


FORKS = """
import ctypes, os, sys, time
from services.processor.isolation import MAX_PROCESSES, Limits, enter_namespaces, renounce
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: /proc/self is this user's again
os.chdir("/")
renounce(Limits(memory=1 << 30), in_namespace=enter_namespaces(network=False))
for number in range(2 * MAX_PROCESSES):
    try:
        if os.fork() == 0:
            time.sleep(60)
    except BlockingIOError:
        sys.exit(7)
"""


async def test_a_fork_bomb_of_an_ordinary_user_is_stopped_by_the_kernel(pool: WorkerPool) -> None:
    worker_of(pool)  # skips where there are no namespaces
    command = [sys.executable, "-c", FORKS]
    ended = await asyncio.to_thread(subprocess.run, command, check=False, timeout=30)
    assert ended.returncode == 7
