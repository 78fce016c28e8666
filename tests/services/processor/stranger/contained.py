"""Run the attacking plugin in one environment and print the results.

`python -m tests.services.processor.stranger.contained KIND` must run as root; it then switches to
the environment. The kinds are the environments in which a pod may run:

    root           root, with all capabilities
    user           an ordinary user on a machine that allows user namespaces
    docker-root    root in a container with Docker's default capabilities and profile
    docker-user    an ordinary user in such a container, as in docker-compose.yml
    open           root without any isolation: proves that the attacks work
"""

import asyncio
import json
import os
import secrets
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from services.processor.channel import Advanced, Broken, Done, GarbledError, Job, PluginJob
from services.processor.isolation import seccomp, tree
from services.processor.isolation.cell import prepare_isolation
from services.processor.isolation.kernel import MACHINE, check, libc, set_dumpable
from services.processor.isolation.limits import Limits
from services.processor.isolation.rung import Policy, rung_of
from services.processor.isolation.syscalls import NUMBERS
from services.processor.output_files import OutputFile
from services.processor.workers import WorkerPool
from tests.services.processor.stranger import attacks

USER = 10001

DOCKER_CAPABILITIES = 0xA80425FB
"""Docker's default for root: CHOWN, DAC_OVERRIDE, FSETID, FOWNER, MKNOD, NET_RAW, SETGID, SETUID,
SETFCAP, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, KILL and AUDIT_WRITE."""

DOCKER_REFUSES = ("unshare", "setns", "mount", "umount2", "pivot_root", "mount_setattr", "clone3")

MODULE = attacks.__name__

GONE_WITHIN = 30.0
"""Seconds for processes that were killed with their worker to be gone: the kernel ends them later
than `kill` returns."""


def let_others_read_python() -> None:
    """Mount Python where every user can read it, for this process only; root's may be private."""
    check(libc().unshare(0x20000), "unshare")
    tree._mount("none", "/", flags=tree._REC | tree._PRIVATE)
    for needed in (sys.base_prefix, sys.prefix, str(Path.cwd())):
        path = Path(needed).resolve()
        closed = [each for each in path.parents if not each.stat().st_mode & 1]
        if closed:
            aside = tempfile.mkdtemp()
            tree._mount(str(path), aside, flags=tree._BIND | tree._REC)
            tree._mount("tmpfs", str(closed[-1]), kind="tmpfs", data="mode=755")
            path.mkdir(parents=True)
            tree._mount(aside, str(path), flags=tree._BIND | tree._REC)


def forbid_namespaces() -> None:
    """Deny what Docker's default profile denies to processes without CAP_SYS_ADMIN."""
    numbers = NUMBERS[MACHINE]
    program = [seccomp._load(0)]
    for name in DOCKER_REFUSES:
        program += [
            seccomp._jump(seccomp._EQUAL, numbers[name], yes=0, no=1),
            seccomp._return(seccomp._REFUSE | (38 if name == "clone3" else 1)),
        ]
    flags = [seccomp._jump(seccomp._ANY_BIT, seccomp._NEW_NAMESPACES, yes=1, no=0)]
    program += [*seccomp._when(numbers["clone"], 0, flags), seccomp._return(seccomp._ALLOW)]
    seccomp.load(b"".join(program))


def keep_capabilities(kept: int) -> None:
    for number in range(41):
        if not kept >> number & 1:
            libc().prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = struct.pack("Ii", 0x20080522, 0)
    check(libc().capset(header, struct.pack("6I", low, low, 0, high, high, 0)), "capset")


def become(kind: str, folder: Path) -> None:
    """Switch to the environment."""
    if kind in ("root", "open"):
        return
    let_others_read_python()
    if kind == "docker-root":
        keep_capabilities(DOCKER_CAPABILITIES)
    else:
        os.chown(folder, USER, USER)
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
    if kind.startswith("docker"):
        forbid_namespaces()


def listen(folder: Path) -> dict[str, Any]:
    """Start the servers that no worker may reach."""
    name = secrets.token_hex(8)
    told: dict[str, Any] = {"unix": str(folder / "server"), "abstract": name}
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_UNIX, told["unix"]),
        (socket.AF_UNIX, f"\0{name}"),
    ):
        server = socket.socket(family)
        server.bind(address)
        server.listen()
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        if family == socket.AF_INET:
            told["tcp"] = server.getsockname()[1]
    Path(told["unix"]).chmod(0o666)
    return told


def serve(server: socket.socket) -> None:
    while True:
        with server.accept()[0] as line:
            line.recv(1)


def lay_out(folder: Path) -> dict[str, Any]:
    """Create the files that no worker may reach."""
    blobs = folder / "blobs"
    for name, content in (
        ("keys/fedcba9876543210.json", "an API key"[: attacks.KEY_SIZE]),
        ("sources/other", "another file"),
        ("packs/20260101T000000-0123456789abcdef", "neighbors"),
    ):
        path = blobs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return {
        "key": str(blobs / "keys/fedcba9876543210.json"),
        "blob": str(blobs / "sources/other"),
        "pack": str(blobs / "packs/20260101T000000-0123456789abcdef"),
    }


def job(folder: Path, pipeline: str, content: bytes, number: int) -> Job:
    source = folder / "blobs" / f"sources/{number}"
    source.write_bytes(content)
    return Job(
        source=str(source),
        scratch=str(folder / "pool" / f"attempt-{number}"),
        content_type="application/json",
        size=len(content),
        run=1,
        attempt=1,
        ocr=False,
        plugin=PluginJob(
            modules=(MODULE,),
            pipeline=pipeline,
            settings=None,
            network=False,
            seconds=60,
            memory=None,
        ),
    )


def ignore(_: Advanced) -> None:
    pass


async def run(kind: str, folder: Path) -> dict[str, Any]:
    policy = Policy.OFF if kind == "open" else Policy.REQUIRE
    pool_folder = folder / "pool"
    pool_folder.mkdir()
    pool_folder.chmod(0o711)
    pool = WorkerPool(
        size=2,
        folder=pool_folder,
        limits=Limits(memory=512 << 20),
        time_limit=60,
        isolation=prepare_isolation(policy, hidden=[pool_folder, folder / "blobs"]),
    )
    os.environ["WAYBILL_MONGODB"] = secret = secrets.token_hex(16)
    told = lay_out(folder) | listen(folder) | {"pod": os.getpid(), "secret": secret}
    told["harmless"] = kind == "open"
    await pool.start()
    try:
        told["scratch"] = [str(each / "file") for each in pool_folder.glob("worker-*/tmp")]
        for each in told["scratch"]:
            Path(each).write_text("of another worker")
        found: dict[str, Any] = {"rung": rung_of(pool.missing), "missing": list(pool.missing)}
        found |= await try_all(pool, folder, told)
        if kind != "open":
            found["left"] = await leave_all(pool, folder, told["key"])
            found["lingering"] = await linger(pool, folder)
        return found
    finally:
        await pool.stop()


async def try_all(pool: WorkerPool, folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    content = json.dumps(told).encode() + b"\n" + b" " * (200 << 10)
    asked = job(folder, "attack", content, 1)
    outcome = await pool.run(asked, ignore)
    assert isinstance(outcome, Done), outcome
    ((_, artifact),) = outcome.contents(asked.scratch)
    assert isinstance(artifact, bytes)
    found: dict[str, Any] = json.loads(artifact)
    is_whole = Path(str(asked.source)).read_bytes() == content
    return found | {"source_is_whole": is_whole, "keys": keys_of(folder)}


def keys_of(folder: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in (folder / "blobs/keys").iterdir()}


async def leave_all(pool: WorkerPool, folder: Path, key: str) -> dict[str, str]:
    """Return the pod's response to each kind of invalid artifact."""
    said = {}
    hows = ("symbolic link", "FIFO", "folder", "link to a folder", "nothing", "short file")
    for number, how in enumerate(hows, start=10):
        asked = {"how": how, "key": key, "elsewhere": str(folder / "blobs/keys")}
        each = job(folder, "leave", json.dumps(asked).encode(), number)
        outcome = await pool.run(each, ignore)
        assert isinstance(outcome, Done), (how, outcome)
        try:
            for _, content in outcome.contents(each.scratch):
                assert isinstance(content, OutputFile)
                said[how] = f"TAKEN: {content.read(99)!r}"
        except GarbledError as error:
            said[how] = f"refused: {error}"
    return said


async def linger(pool: WorkerPool, folder: Path) -> dict[str, Any]:
    """Return what later jobs find of earlier ones."""
    marker = f"marker-{secrets.token_hex(8)}"
    found = set()
    for number in range(20, 25):
        content = json.dumps({"marker": marker}).encode()
        outcome = await pool.run(job(folder, "linger", content, number), ignore)
        assert not isinstance(outcome, Broken), outcome
        found |= {outcome.statistics["found"], outcome.statistics["alive"]}
    await pool.stop()
    deadline = time.monotonic() + GONE_WITHIN
    while (alive := attacks.running_with(marker)) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return {"found": sorted(str(each) for each in found if each), "alive": alive}


def main() -> None:
    kind = sys.argv[1]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        become(kind, folder)
        set_dumpable(dumpable=False)
        found = asyncio.run(run(kind, folder))
        sys.stdout.write(json.dumps(found))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
