"""The plugin of an attacker who has taken over a worker. Every attack must raise an error.

The input file contains the targets. An attack that returns has succeeded.
"""

# ruff: noqa: PTH101, PTH104, PTH108, PTH115, PTH123, PTH208, S103 - attackers call the kernel

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.processor.plugins import Context, Document, step

KEY_SIZE = 9


@dataclass(frozen=True)
class Target:
    """The targets of the attacks."""

    pod: int
    """Process id of the pod."""
    secret: str
    """A value in the pod's environment and memory."""
    key: str
    """Path of an API key in the blob store."""
    blob: str
    """Path of another user's file."""
    pack: str
    """Path of the pack that contains this file and others."""
    scratch: str
    """Path of a file in another worker's folder."""
    tcp: int
    """Port of a server on the loopback interface."""
    unix: str
    """Path of a server's Unix socket."""
    abstract: str
    """Name of a server's abstract socket."""
    source: str
    """Path of the file to process."""
    out: str
    """Directory for artifacts."""


Attempt = Callable[[Target], Any]


def _call(number: int, *arguments: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _find_secret(target: Target, name: str) -> str:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if target.secret.encode() in (process / name).read_bytes():
                    return f"found in {process}"
            except OSError:
                continue
    raise OSError("found nowhere")


def _read_memory(target: Target) -> bytes:
    lines = Path(f"/proc/{target.pod}/maps").read_text().splitlines()
    start = int(lines[0].split("-")[0], 16)
    with Path(f"/proc/{target.pod}/mem").open("rb") as memory:
        memory.seek(start)
        return memory.read(16)


def _ptrace(target: Target) -> int:
    return _call(101, 16, target.pod, 0, 0)  # PTRACE_ATTACH


def _read_remotely(target: Target) -> int:
    buffer = ctypes.create_string_buffer(8)
    here = struct.pack("PN", ctypes.addressof(buffer), 8)
    there = struct.pack("PN", id(buffer), 8)
    return _call(310, target.pod, here, 1, there, 1, 0)


def _connect(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> str:
    with socket.socket(family, kind) as line:
        line.settimeout(2)
        line.connect(address)
        line.send(b"x")
        return "connected"


def _open_socket(family: int, kind: int) -> str:
    socket.socket(family, kind, 0).close()
    return "there is one"


def _write(path: str) -> str:
    with open(path, "r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(first)  # Writes the same bytes, so that success does no harm.
    return "written"


def _create(path: str) -> str:
    Path(path).write_text("x")
    os.unlink(path)
    return "created"


def _create_beside(path: str) -> str:
    Path(path).with_name("0123456789abcdef.json").write_text("{}")
    return "created"


def _link_out(target: Target, path: str) -> str:
    Path(target.out).mkdir(exist_ok=True)
    os.link(path, f"{target.out}/linked")
    return "linked"


def _read_by_link(path: str) -> str:
    link = Path(tempfile.gettempdir()) / f"link-{time.monotonic_ns()}"
    link.symlink_to(path)
    return link.read_text()


def _bomb(_: Target) -> str:
    children = []
    try:
        for _number in range(1500):
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
            children.append(child)
        return f"{len(children)} processes"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def _reopen_descriptors(_: Target) -> str:
    found = []
    for number in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{number}"
        try:
            place = os.readlink(path)
        except OSError:
            continue  # The descriptor of this listing.
        if place.startswith(("socket:", "pipe:", "/dev/null")):
            continue
        found.append(place)
    if not found:
        raise OSError("there are none but the standard ones and the sockets to the pod")
    return str(found)


def _become_root(_: Target) -> str:
    os.setuid(0)
    return "root"


def _be_root(_: Target) -> str:
    if os.getuid() == 0:
        return "root all along"
    raise PermissionError


def _use_capability(_: Target) -> str:
    status = Path("/proc/self/status").read_text()
    held = {line for line in status.splitlines() if line.startswith(("CapEff", "CapPrm"))}
    if all(int(line.split()[1], 16) == 0 for line in held):
        raise PermissionError
    return str(held)


def _ring(_: Target) -> int:
    return _call(425, 8, ctypes.create_string_buffer(120))


def _clone_into_namespace(_: Target) -> int:
    child = _call(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def _list_others(_: Target) -> str:
    """List the folders of other workers."""
    folder = Path(tempfile.gettempdir()).parent.parent
    found = [each.name for each in folder.iterdir() if each.name.startswith("worker-")]
    if len(found) <= 1:
        raise OSError("there is only this worker's own")
    return str(found)


ATTEMPTS: dict[str, Attempt] = {
    # Secrets of the pod.
    "read the pod's environment": lambda t: Path(f"/proc/{t.pod}/environ").read_bytes(),
    "find the secret in any environment": lambda t: _find_secret(t, "environ"),
    "find the secret in any command line": lambda t: _find_secret(t, "cmdline"),
    "read the pod's command line": lambda t: Path(f"/proc/{t.pod}/cmdline").read_bytes(),
    "read the pod's memory": _read_memory,
    "list the pod's descriptors": lambda t: os.listdir(f"/proc/{t.pod}/fd"),
    "look through the pod's root": lambda t: os.listdir(f"/proc/{t.pod}/root/"),
    "look into the pod's directory": lambda t: os.listdir(f"/proc/{t.pod}/cwd/"),
    "trace the pod": _ptrace,
    "read the pod by process_vm_readv": _read_remotely,
    "read an inherited descriptor": _reopen_descriptors,
    # The pod itself.
    "signal the pod": lambda t: os.kill(t.pod, signal.SIGCONT),
    "signal everybody": lambda t: os.kill(-1, 0) if t.pod in _visible() else _refuse(),
    "limit the pod": lambda t: resource.prlimit(t.pod, resource.RLIMIT_NOFILE),
    "bind the pod to a processor": lambda t: os.sched_setaffinity(t.pod, {0}),
    "slow down the pod": lambda t: os.setpriority(os.PRIO_PROCESS, t.pod, 19),
    "slow down its user": lambda t: (
        os.setpriority(os.PRIO_USER, 0, 19) if t.pod in _visible() else _refuse()
    ),
    # The network.
    "connect to Kafka": lambda t: _connect(socket.AF_INET, ("127.0.0.1", t.tcp)),
    "connect by IPv6": lambda t: _connect(socket.AF_INET6, ("::ffff:127.0.0.1", t.tcp)),
    "send a datagram": lambda t: _connect(socket.AF_INET, ("127.0.0.1", t.tcp), socket.SOCK_DGRAM),
    "connect to a local socket": lambda t: _connect(socket.AF_UNIX, t.unix),
    "connect to an abstract socket": lambda t: _connect(socket.AF_UNIX, f"\0{t.abstract}"),
    "open a raw socket": lambda _: _open_socket(socket.AF_INET, socket.SOCK_RAW),
    "open a packet socket": lambda _: _open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "open a crypto socket": lambda _: _open_socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "open a vsock": lambda _: _open_socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "open a netlink socket": lambda _: _open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    # The blob store and other files.
    "read a key": lambda t: Path(t.key).read_bytes(),
    "overwrite a key": lambda t: _write(t.key),
    "make itself a key": lambda t: _create_beside(t.key),
    "list the keys": lambda t: os.listdir(Path(t.key).parent),
    "remove a key": lambda t: os.unlink(t.key),
    "rename a key": lambda t: os.rename(t.key, f"{t.key}.old"),
    "empty a key": lambda t: os.truncate(t.key, KEY_SIZE),
    "change who may read a key": lambda t: os.chmod(t.key, 0o644),
    "change the times of a key": lambda t: os.utime(t.key),
    "link a key into its results": lambda t: _link_out(t, t.key),
    "read a key through a link": lambda t: _read_by_link(t.key),
    "read a key past its folder": lambda t: Path(f"{t.source}/../../../{t.key}").read_bytes(),
    "read another file": lambda t: Path(t.blob).read_bytes(),
    "overwrite another file": lambda t: _write(t.blob),
    "read the neighbors in a pack": lambda t: Path(t.pack).read_bytes(),
    "read another worker's file": lambda t: Path(t.scratch).read_bytes(),
    "write to another worker's folder": lambda t: _create_beside(t.scratch),
    "list other workers": _list_others,
    "write to its source": lambda t: _write(t.source),
    "empty its source": lambda t: os.truncate(t.source, 0),
    "change who may write to its source": lambda t: os.chmod(t.source, 0o666),
    "remove its source": lambda t: os.unlink(t.source),
    "write beside its source": lambda t: _create_beside(t.source),
    # The machine.
    "read /etc/shadow": lambda _: Path("/etc/shadow").read_bytes(),
    "write to /etc": lambda _: _create("/etc/stranger"),
    "write to Python": lambda _: _create(f"{sys.prefix}/stranger.py"),
    "write to the code of the pod": lambda _: _write(__file__),
    "write to shared temporary files": lambda _: _create("/var/tmp/stranger"),
    "read the kernel's log": lambda _: _call(103, 3, ctypes.create_string_buffer(99), 99),
    "be root": _be_root,
    "become root": _become_root,
    "hold a capability": _use_capability,
    "make a user namespace": lambda _: _call(272, 0x10000000),
    "clone into a user namespace": _clone_into_namespace,
    "mount": lambda _: _call(165, b"none", b"/tmp", b"tmpfs", 0, None),
    "change the root directory": lambda _: os.chroot("/"),
    "use the kernel's key ring": lambda _: _call(250, 0, -3, 1),
    "load a BPF program": lambda _: _call(321, 0, ctypes.create_string_buffer(72), 72),
    "count events of processors": lambda _: _call(
        298, ctypes.create_string_buffer(128), 0, -1, -1, 0
    ),
    "use an I/O ring": _ring,
    "catch page faults": lambda _: _call(323, 1),
    "open a file by its handle": lambda _: _call(304, -100, ctypes.create_string_buffer(200), 0),
    "share memory by System V": lambda _: _call(31, _call(29, 0, 4096, 0o1666), 0, None),
    "explode into processes": _bomb,
}


def _visible() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _refuse() -> None:
    raise PermissionError


HARMLESS = (
    "signal the pod",
    "connect to Kafka",
    "connect to a local socket",
    "connect to an abstract socket",
    "read a key",
    "overwrite a key",
    "make itself a key",
    "read another file",
    "read the neighbors in a pack",
    "read another worker's file",
    "write to its source",
    "be root",
)
"""Attacks that affect only what the test has created, for the run without isolation."""


def try_all(target: Target, names: Iterable[str]) -> dict[str, str]:
    """Return the attacks that succeeded, and their results."""
    succeeded = {}
    for name in names:
        attempt = ATTEMPTS[name]
        try:
            succeeded[name] = repr(attempt(target))[:200]
        except (OSError, ValueError):
            continue
    return succeeded


@step(names=["*.attack"])
def attack(document: Document, context: Context) -> Document:
    """Run all attacks."""
    with document.path.open() as file:
        told = json.loads(file.readline())
    harmless = told.pop("harmless")
    (told["scratch"],) = (
        each for each in told["scratch"] if not each.startswith(tempfile.gettempdir())
    )
    out = Path(tempfile.gettempdir()).parent / "out" / "1"
    target = Target(**told, source=str(document.path), out=str(out))
    names = HARMLESS if harmless else ATTEMPTS
    found = {"uid": os.getuid(), "succeeded": try_all(target, names), "tried": len(names)}
    context.artifact("found.json", "application/json", json.dumps(found))
    return document


@step(names=["*.leave"])
def leave(document: Document, context: Context) -> Document:
    """Leave files that the pod must not accept as artifacts and the next job must not find."""
    asked = json.loads(document.path.read_text())
    content = b"x" * (300 << 10)
    context.artifact("left.bin", "application/octet-stream", content)
    (file,) = (Path(tempfile.gettempdir()).parent / "out").rglob("0")
    file.unlink()
    match asked["how"]:
        case "symbolic link":
            file.symlink_to(asked["key"])
        case "FIFO":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "link to a folder":
            file.parent.rmdir()
            file.parent.symlink_to(asked["elsewhere"])
        case "nothing":
            pass
        case "short file":
            file.write_bytes(content[:100])
    return document


@step(names=["*.linger"])
def linger(document: Document, context: Context) -> Document:
    """Leave files and processes behind, or report those that exist."""
    marker = json.loads(document.path.read_text())["marker"]
    folder = Path(tempfile.gettempdir())
    found = sorted(
        str(each.relative_to(folder))
        for place in (folder, Path("/dev/shm"))
        for each in (place.rglob("secret*") if place == folder else ())
    )
    document.statistics["found"] = ",".join(found)
    document.statistics["alive"] = ",".join(running_with(marker))
    (folder / "secret").write_text("of one file")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "secret").write_text("of one file")
    (context.scratch / "secret").write_text("of one file")
    command = [sys.executable, "-c", "import time; time.sleep(60)", marker]
    if os.fork() == 0:  # The first child exits, which orphans the second.
        try:
            subprocess.Popen(command, start_new_session=asks_for_session())
        finally:
            os._exit(0)
    os.wait()
    return document


def running_with(marker: str) -> list[str]:
    """Return the visible processes that have a marker in their command line."""
    found = []
    try:
        processes = os.listdir("/proc")
    except OSError:
        return []
    for process in processes:
        try:
            if (
                process.isdigit()
                and marker.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
            ):
                found.append(process)
        except OSError:
            continue
    return found


def asks_for_session() -> bool:
    """Return True if the process can create a session."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
