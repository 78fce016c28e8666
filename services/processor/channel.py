"""What pod and worker tell each other over the sockets between them, and how it is framed.

A job is one message of the queue of jobs. The worker answers with frames over another socket: a
frame is two lengths, 4 bytes each and big-endian, a JSON document, and bytes that belong to it:
the content of small artifacts, one behind another, which then need no file.

The pod believes a worker nothing that could harm others: what parses hostile files may have been
taken over by one.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter

from services.processor.isolation.rung import Layer
from services.processor.leftfiles import LeftFile, LeftFileError, open_left_file
from shared.events.facts import Count, Failure, Progress, Storable
from shared.events.storable import sendable_media_type

MAX_FRAME = 8 << 20
"""Bytes of one frame: results are small, and large artifacts go through files."""

MAX_JOB = 160 << 10
"""Bytes of one job; the kernel takes messages of up to 208 KiB."""

MAX_CONTENT = 64 << 10
"""Bytes of a file that goes with its job: the settings of a plugin have room beside it."""

BUFFER = 1 << 20
"""Bytes of jobs that may wait for a worker; the kernel grants less (`net.core.wmem_max`),
416 KiB by default, which is some fifteen small files."""

_LENGTHS = struct.Struct(">II")


ARTIFACT_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
"""A name becomes the end of a key in the blob store and of an address."""


class GarbledError(ValueError):
    """What came over the socket is nothing that a worker tells."""


class FrameTooLargeError(ValueError):
    """A message is longer than `MAX_FRAME`."""


class PluginJob(BaseModel):
    """The pipeline of a plugin that a job is for."""

    modules: tuple[str, ...]
    """What is to be imported for it."""
    pipeline: str
    settings: str | None
    """as JSON"""
    network: bool
    seconds: float | None
    memory: int | None
    """bytes"""


class Packed(BaseModel):
    """A stored file that is none on its own, but a slice of a pack."""

    root: str
    """The directory that has the packs; no worker may read it."""
    key: str
    sha256: str | None
    """Hash of its content, if that is known."""


class Job(BaseModel):
    """One attempt at one file, as the pod hands it over."""

    source: str | Packed
    """The file itself is told by its path: pydantic takes 2 µs to make a `Path`."""
    scratch: str
    """A directory of this attempt's own, for what the pod takes from the worker; whoever needs it
    makes it."""
    content_type: str
    size: int
    run: int
    attempt: int
    ocr: bool
    plugin: PluginJob | None = None
    """None for the built-in pipeline."""
    content: bytes = Field(default=b"", exclude=True)
    """What goes with the job; as the worker has it."""
    link: int = Field(default=0, exclude=True)
    """Name of the file in the worker's folder; 0 if the content goes with the job."""


class ProducedArtifact(BaseModel):
    """An artifact for the pod to store."""

    name: str = Field(pattern=ARTIFACT_NAME)
    content_type: Annotated[str, AfterValidator(sendable_media_type)]
    size: Count
    inline: bool
    """Whether its content comes with the frame; else it waits in the scratch directory."""


class Advanced(BaseModel):
    """The job has come further."""

    kind: Literal["advanced"] = "advanced"
    phase: str
    progress: Progress
    message: str | None = None


class Ready(BaseModel):
    """The process can take jobs."""

    kind: Literal["ready"] = "ready"
    missing: tuple[Layer, ...] = ()
    """Layers of its isolation that this machine does not allow."""
    own_processes: bool = False
    """Whether it has processes of its own, which end with the first of them."""


class Done(BaseModel):
    """The job ended well."""

    kind: Literal["done"] = "done"
    last: bool = False
    """The process has done enough, and ends."""
    statistics: Annotated[dict[str, int | float | str | bool | None], Storable]
    artifacts: list[ProducedArtifact]
    content: bytes = Field(default=b"", exclude=True)
    """Of the artifacts without a path, one behind another."""

    def contents(self, scratch: str) -> Iterator[tuple[ProducedArtifact, bytes | LeftFile]]:
        """Yield each artifact with its content or the file that has it.

        Raises:
            GarbledError: what should be a file is none, but a link to somewhere, say, or is not
                as long as the worker told.
        """
        start = 0
        for number, artifact in enumerate(self.artifacts):
            if artifact.inline:
                yield artifact, self.content[start : start + artifact.size]
                start += artifact.size
            else:
                try:
                    with open_left_file(scratch, str(number), size=artifact.size) as left:
                        yield artifact, left
                except LeftFileError as error:
                    raise GarbledError(f"artifact {artifact.name}: {error}") from error


class Broken(BaseModel):
    """The job ended with an error."""

    kind: Literal["broken"] = "broken"
    error: Failure
    last: bool = False
    """The process has done enough, or is not to be trusted with another file, and ends."""
    used: int = 0
    """Bytes of temporary files that the job has left."""
    crash: str | None = Field(default=None, exclude=True)
    """How the process died over the job, as the pod saw it: a signal's name or an exit code."""
    from_outside: bool = Field(default=False, exclude=True)
    """The process was ended by somebody else, or in an unknown way: not the file's fault."""


Report = Ready | Advanced | Done | Broken

_REPORT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])


class Frame(NamedTuple):
    """One message as it is on the socket."""

    document: bytes
    content: bytes


def encode_job(job: Job, *, link: int = 0, content: bytes | bytearray = b"") -> bytes:
    """The message of a job: how long its JSON is, the name of a link, the JSON, and the content.

    Args:
        link: name of the file in the worker's folder; 0 if the content goes with the job.

    Raises:
        FrameTooLargeError: nobody would read it.
    """
    document = job.model_dump_json().encode()
    size = _LENGTHS.size + len(document) + len(content)
    if size > MAX_JOB:
        raise FrameTooLargeError(f"a job of {size} bytes")
    return b"".join((_LENGTHS.pack(len(document), link), document, content))


def decode_job(message: memoryview) -> Job:
    """The job of a message."""
    length, link = _LENGTHS.unpack_from(message)
    end = _LENGTHS.size + length
    job = Job.model_validate_json(bytes(message[_LENGTHS.size : end]))
    job.link, job.content = link, bytes(message[end:])
    return job


def encode(message: BaseModel) -> bytes:
    """The frame of a message.

    Raises:
        FrameTooLargeError: nobody would read it.
    """
    document = message.model_dump_json().encode()
    content = message.content if isinstance(message, Done) else b""
    if len(document) + len(content) > MAX_FRAME:
        raise FrameTooLargeError(f"a frame of {len(document) + len(content)} bytes")
    return _LENGTHS.pack(len(document), len(content)) + document + content


def read_report(frame: Frame) -> Report:
    """What a worker tells.

    Raises:
        GarbledError: it is nothing that a worker tells.
    """
    try:
        report = _REPORT.validate_json(frame.document)
    except ValueError as error:
        raise GarbledError("the worker sent no report") from error
    if isinstance(report, Done):
        if sum(each.size for each in report.artifacts if each.inline) != len(frame.content):
            raise GarbledError("the artifacts are not of the size that the worker tells")
        if frame.content:
            return report.model_copy(update={"content": frame.content})
    return report


class JobQueue:
    """The jobs of one worker: they lie in the kernel until it takes one after another.

    Who takes a message has it alone, so that the pod can take back what the worker has not begun.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def put(self, job: bytes) -> bool:
        """Give the worker one more; False if there is no room for it.

        Raises:
            OSError: the worker is gone.
        """
        try:
            self._ours.send(job, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def take_back(self) -> int:
        """Take back all that the worker has not taken; returns how many they were."""
        number = 0
        with contextlib.suppress(OSError):  # There is none, or it is closed.
            while self.theirs.recv(1, socket.MSG_DONTWAIT):
                number += 1
        return number

    def close(self) -> None:
        """Give no more: a worker that waits for one ends."""
        self._ours.close()
        self.theirs.close()


class Frames:
    """Cuts what comes over the socket into frames."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with `data`.

        Raises:
            GarbledError: a length is beyond `MAX_FRAME`.
        """
        self._received += data
        while len(self._received) >= _LENGTHS.size:
            document, content = _LENGTHS.unpack_from(self._received)
            if document + content > MAX_FRAME:
                raise GarbledError(f"a frame of {document + content} bytes")
            middle = _LENGTHS.size + document
            end = middle + content
            if len(self._received) < end:
                return
            frame = Frame(
                bytes(self._received[_LENGTHS.size : middle]), bytes(self._received[middle:end])
            )
            del self._received[:end]
            yield frame
