"""File writes are complete or raise an error, and no other code writes to files."""

import ast
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import writing
from shared.blobs.files import StagedFile
from shared.writing import overwrite_file, write_all, write_file
from tests.support.small_disk import SmallDisk, small_disk

ROOT = Path(__file__).resolve().parents[2]

SMALL_DISK = 32 << 10
"""Size in bytes."""

FORBIDDEN_CALLS = {
    ("os", name)
    for name in (
        *("write", "writev", "pwrite", "pwritev", "sendfile", "copy_file_range", "splice"),
        *("truncate", "fdopen"),
    )
} | {("shutil", name) for name in ("copy", "copy2", "copyfile", "copyfileobj", "copytree", "move")}

FORBIDDEN_METHODS = {"write_bytes", "write_text", "send", "sendmsg", "sendto", "sendfile"}

ALLOWED = {
    # Each of these writes completely, or checks what was written.
    ("services/processor/channel.py", "_ours.send"): "a packet is sent whole or not at all",
    ("services/processor/worker.py", "_channel.send"): "the rest follows by sendall",
    ("shared/kafka/publishing.py", "producer.send"): "aiokafka's method, not a socket's",
    ("shared/kafka/archive.py", "producer.send"): "aiokafka's method, not a socket's",
    (
        "shared/kafka/archive.py",
        "gzip.open",
    ): "buffered: it writes everything or raises, on closing at the latest",
    ("services/processor/worker.py", "open"): "standard output of the process",
    ("services/processor/scratch.py", "open"): "a lock without content",
    ("services/processor/steps/command.py", "output.open"): "an external program writes to it",
    ("services/processor/steps/command.py", "complaint.open"): "an external program writes to it",
    ("waybill/local/kafka.py", "open"): "a lock without content",
    ("waybill/local/stack.py", "open"): "a lock without content",
    ("waybill/local/process.py", "log.open"): "an external program writes to it",
}


def writes_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and name of each call that may write to a file or socket directly."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = ast.unparse(function)
        if isinstance(function, ast.Attribute):
            owner = ast.unparse(function.value)
            name = f"{owner.removeprefix('self.')}.{function.attr}"
            short = function.attr if isinstance(function.value, ast.Call | ast.BinOp) else name
            if owner == "super()":
                continue  # An ASGI message.
            if (owner, function.attr) in FORBIDDEN_CALLS or function.attr in FORBIDDEN_METHODS:
                yield node.lineno, short
            if function.attr == "open" and owner != "os" and opens_for_writing(node, skip=0):
                yield node.lineno, "open" if short.endswith(")") else short
        elif name == "open" and opens_for_writing(node, skip=1):
            yield node.lineno, name


def opens_for_writing(call: ast.Call, *, skip: int) -> bool:
    arguments = [*call.args[skip:], *(each.value for each in call.keywords if each.arg == "mode")]
    modes = [each.value for each in arguments if isinstance(each, ast.Constant)]
    return any(
        isinstance(mode, str) and set(mode) & set("wax+") and len(mode) < 5 for mode in modes
    )


def test_nothing_but_this_module_writes_to_files() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line} {name}"
        for folder in ("services", "shared", "waybill")
        for path in (ROOT / folder).rglob("*.py")
        if path != Path(writing.__file__)
        for line, name in writes_of(ast.parse(path.read_text()))
        if (str(path.relative_to(ROOT)), name) not in ALLOWED
    }
    assert not found, "write through shared.writing, or say in ALLOWED why this is complete"


@pytest.mark.parametrize(
    "code",
    [
        "os.write(1, b'')",
        "path.write_text('x')",
        "(folder / 'x').write_bytes(b'')",
        "open('x', 'wb', buffering=0)",
        "path.open('a')",
        "(folder / 'x').open(mode='w')",
        "shutil.copyfile('a', 'b')",
        "sock.send(b'')",
        "os.sendfile(1, 2, 0, 3)",
    ],
)
def test_a_write_past_it_is_found(code: str) -> None:
    assert list(writes_of(ast.parse(code)))


@pytest.mark.parametrize("code", ["open('x', 'rb')", "path.open()", "os.open('x', os.O_RDONLY)"])
def test_reading_is_no_write(code: str) -> None:
    assert not list(writes_of(ast.parse(code)))


def in_short_pieces(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Make each system call write at most `most` bytes."""

    def writev(descriptor: int, pieces: list[memoryview]) -> int:
        return os.write(descriptor, b"".join(pieces)[:most])

    monkeypatch.setattr(os, "writev", writev)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 50))
def test_a_system_that_writes_little_at_a_time_writes_all(pieces: list[bytes], most: int) -> None:
    read, write = os.pipe()
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_short_pieces(monkeypatch, most)
        write_all(write, *pieces)
    os.close(write)
    with os.fdopen(read, "rb") as end:
        assert end.read() == b"".join(pieces)


def test_more_pieces_than_one_call_takes_are_written(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    pieces = [f"{number}\n".encode() for number in range(writing.MAX_PIECES + 10)]
    write_all(descriptor, *pieces)
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_a_file_that_takes_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "writev", lambda *_: 0)
    with pytest.raises(OSError, match="no more"):
        write_all(1, b"x")


def test_a_file_is_replaced_and_its_rest_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, "grün")
    assert path.read_text() == "grün"
    overwrite_file(path, b"ab")
    assert path.read_bytes() == b"ab"
    write_file(path, b"")
    assert path.read_bytes() == b""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", SMALL_DISK) as disk:
        yield disk


def write_blob(path: Path, content: bytes) -> None:
    StagedFile(str(path.parent), path.name).write(content)


@pytest.mark.parametrize("write", [write_file, overwrite_file, write_blob])
def test_a_disk_that_fills_up_in_the_middle_is_an_error(
    disk: SmallDisk, write: Callable[[Path, bytes], None]
) -> None:
    with pytest.raises(OSError, match="No space") as caught:
        write(disk.path / "file", bytes(2 * SMALL_DISK))
    assert caught.value.errno == errno.ENOSPC
