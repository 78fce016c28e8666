"""Messages between pod and worker, and how they are framed on the sockets.

A job is one message on the job socket. The worker answers with frames on another socket. A frame is
two lengths (4 bytes each, big-endian), a JSON document, and the content of small artifacts, one
after the other. Small artifacts therefore need no file.

The pod trusts no report from a worker: a hostile file may have taken over the process that parses
it.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter

from services.processor.isolation.rung import Layer
from services.processor.output_files import OutputFile, OutputFileError, open_output_file
from shared.events.facts import Count, Failure, Progress, Storable
from shared.events.storable import sendable_media_type

MAX_FRAME = 8 << 20
"""Bytes of one frame. Results are small, and large artifacts are passed as files."""

MAX_JOB = 160 << 10
"""Bytes of one job. The kernel accepts messages of up to 208 KiB."""

MAX_CONTENT = 64 << 10
"""Bytes of a file that is sent inside its job. This leaves room for a plugin's settings."""

BUFFER = 1 << 20
"""Bytes of jobs that may be queued for a worker. The kernel grants less (`net.core.wmem_max`):
416 KiB by default, about fifteen small files."""

_LENGTHS = struct.Struct(">II")


ARTIFACT_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
"""Pattern of an artifact's name, which becomes part of a blob key and of a URL."""


class GarbledError(ValueError):
    """The data on the socket is not a valid worker report."""


class FrameTooLargeError(ValueError):
    """A message exceeds `MAX_FRAME` or a job exceeds `MAX_JOB`."""


class PluginJob(BaseModel):
    """The plugin pipeline that a job runs."""

    modules: tuple[str, ...]
    """Modules to import for it."""
    pipeline: str
    settings: str | None
    """JSON"""
    network: bool
    seconds: float | None
    memory: int | None
    """bytes"""


class Packed(BaseModel):
    """A stored file that is a slice of a pack."""

    root: str
    """Directory of the packs. Workers may not read it."""
    key: str
    sha256: str | None
    """Hash of the content, if known."""


class Job(BaseModel):
    """One attempt at one file, as the pod sends it to a worker."""

    source: str | Packed
    """A path as a string: pydantic takes 2 µs to create a `Path`."""
    scratch: str
    """Directory of this attempt, for files that the pod takes over from the worker. It is created
    on first use."""
    content_type: str
    size: int
    run: int
    attempt: int
    ocr: bool
    plugin: PluginJob | None = None
    """None for the built-in pipeline."""
    content: bytes = Field(default=b"", exclude=True)
    """Content of a small file, as the worker receives it."""
    link: int = Field(default=0, exclude=True)
    """Name of the file in the worker's folder; 0 if the content is part of the job."""


class ProducedArtifact(BaseModel):
    """An artifact for the pod to store."""

    name: str = Field(pattern=ARTIFACT_NAME)
    content_type: Annotated[str, AfterValidator(sendable_media_type)]
    size: Count
    inline: bool
    """True if the content is in the frame; otherwise it is a file in the scratch directory."""


class Advanced(BaseModel):
    """The job made progress."""

    kind: Literal["advanced"] = "advanced"
    phase: str
    progress: Progress
    message: str | None = None


class Ready(BaseModel):
    """The process can accept jobs."""

    kind: Literal["ready"] = "ready"
    missing: tuple[Layer, ...] = ()
    """Isolation layers that this machine does not support."""
    own_processes: bool = False
    """True if the worker has a PID namespace: all its processes end with the first one."""


class Done(BaseModel):
    """The job succeeded."""

    kind: Literal["done"] = "done"
    last: bool = False
    """The process has reached its job limit and exits."""
    statistics: Annotated[dict[str, int | float | str | bool | None], Storable]
    artifacts: list[ProducedArtifact]
    content: bytes = Field(default=b"", exclude=True)
    """Content of the inline artifacts, one after the other."""

    def contents(self, scratch: str) -> Iterator[tuple[ProducedArtifact, bytes | OutputFile]]:
        """Yield each artifact with its content or its file.

        Raises:
            GarbledError: a file is missing, is not a regular file, or differs from the size that
                the worker reported.
        """
        start = 0
        for number, artifact in enumerate(self.artifacts):
            if artifact.inline:
                yield artifact, self.content[start : start + artifact.size]
                start += artifact.size
            else:
                try:
                    with open_output_file(scratch, str(number), size=artifact.size) as left:
                        yield artifact, left
                except OutputFileError as error:
                    raise GarbledError(f"artifact {artifact.name}: {error}") from error


class Broken(BaseModel):
    """The job failed."""

    kind: Literal["broken"] = "broken"
    error: Failure
    last: bool = False
    """The process has reached its job limit, or can no longer be trusted, and exits."""
    used: int = 0
    """Bytes of temporary files that the job left behind."""
    crash: str | None = Field(default=None, exclude=True)
    """How the process died during the job, as seen by the pod: a signal name or an exit code."""
    from_outside: bool = Field(default=False, exclude=True)
    """The process was killed externally or for an unknown reason; the file is not at fault."""


Report = Ready | Advanced | Done | Broken

_REPORT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])


class Frame(NamedTuple):
    """One message on the socket."""

    document: bytes
    content: bytes


def encode_job(job: Job, *, link: int = 0, content: bytes | bytearray = b"") -> bytes:
    """Encode a job: length of the JSON, number of the link, JSON, content.

    Args:
        link: name of the file in the worker's folder; 0 if the content is part of the job.

    Raises:
        FrameTooLargeError: the message exceeds `MAX_JOB`.
    """
    document = job.model_dump_json().encode()
    size = _LENGTHS.size + len(document) + len(content)
    if size > MAX_JOB:
        raise FrameTooLargeError(f"the job is {size} bytes; the limit is {MAX_JOB}")
    return b"".join((_LENGTHS.pack(len(document), link), document, content))


def decode_job(message: memoryview) -> Job:
    """Decode the job in a message."""
    length, link = _LENGTHS.unpack_from(message)
    end = _LENGTHS.size + length
    job = Job.model_validate_json(bytes(message[_LENGTHS.size : end]))
    job.link, job.content = link, bytes(message[end:])
    return job


def encode(message: BaseModel) -> bytes:
    """Encode a message as a frame.

    Raises:
        FrameTooLargeError: the frame exceeds `MAX_FRAME`.
    """
    document = message.model_dump_json().encode()
    content = message.content if isinstance(message, Done) else b""
    if len(document) + len(content) > MAX_FRAME:
        raise FrameTooLargeError(
            f"the frame is {len(document) + len(content)} bytes; the limit is {MAX_FRAME}"
        )
    return _LENGTHS.pack(len(document), len(content)) + document + content


def read_report(frame: Frame) -> Report:
    """Decode and validate a worker's report.

    Raises:
        GarbledError: the frame is not a valid report.
    """
    try:
        report = _REPORT.validate_json(frame.document)
    except ValueError as error:
        raise GarbledError("the worker sent an invalid report") from error
    if isinstance(report, Done):
        if sum(each.size for each in report.artifacts if each.inline) != len(frame.content):
            raise GarbledError("the artifacts do not have the size that the worker reported")
        if frame.content:
            return report.model_copy(update={"content": frame.content})
    return report


class JobQueue:
    """The job queue of one worker, held in a kernel socket buffer.

    Each message is received exactly once, so the pod can take back jobs that the worker has not
    started.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def put(self, job: bytes) -> bool:
        """Queue a job for the worker. Return False if the queue is full.

        Raises:
            OSError: the worker has exited.
        """
        try:
            self._ours.send(job, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def reclaim(self) -> int:
        """Remove all jobs that the worker has not received. Return their number."""
        number = 0
        with contextlib.suppress(OSError):  # The queue is empty or closed.
            while self.theirs.recv(1, socket.MSG_DONTWAIT):
                number += 1
        return number

    def close(self) -> None:
        """Close the queue. A worker that waits for a job exits."""
        self._ours.close()
        self.theirs.close()


class Frames:
    """Splits the byte stream from a worker into frames."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes.

        Raises:
            GarbledError: a frame exceeds `MAX_FRAME`.
        """
        self._received += data
        while len(self._received) >= _LENGTHS.size:
            document, content = _LENGTHS.unpack_from(self._received)
            if document + content > MAX_FRAME:
                raise GarbledError(
                    f"the frame is {document + content} bytes; the limit is {MAX_FRAME}"
                )
            middle = _LENGTHS.size + document
            end = middle + content
            if len(self._received) < end:
                return
            frame = Frame(
                bytes(self._received[_LENGTHS.size : middle]), bytes(self._received[middle:end])
            )
            del self._received[:end]
            yield frame
