"""Settings of the processor."""

import os
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.processor.isolation.rung import Policy
from shared.settings import Settings


class ProcessorSettings(Settings):
    """How much one pod works at once, how long, and how often it tries."""

    port: int = Field(
        default=8002, ge=0, le=65535, description="Port of the processor's health and metrics."
    )
    workers: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2),
        ge=1,
        description="Worker processes of one pod. Default: one a core, at least 2.",
    )
    window: int = Field(
        default=500,
        ge=1,
        le=1000,
        description="Records of one partition that may be in a pod's hands; those that are open "
        "must fit on a commit.",
    )
    window_bytes: int = Field(
        default=64 * 1024**2,
        ge=1,
        description="Bytes of the records that may be in a pod's hands altogether.",
    )
    large_file: int = Field(
        default=1024**2,
        ge=1,
        description="Bytes from which on a file is large: small ones overtake it, and large ones "
        "leave a place for a small one.",
    )
    owner_limit: int | None = Field(
        default=None,
        ge=1,
        description="Files of one owner that a pod works on at once. Default: all places but one.",
    )
    max_attempts: int = Field(
        default=3, ge=1, description="Attempts at a file before it is given up."
    )
    time_limit: float = Field(
        default=900.0, gt=0, description="Seconds one attempt may take before it is killed."
    )
    memory_limit: int = Field(
        default=2 * 1024**3, gt=0, description="Bytes of memory one worker process may use."
    )
    file_limit: int = Field(
        default=4 * 1024**3, gt=0, description="Bytes of one temporary file of a worker process."
    )
    worker_files: int = Field(
        default=1000, ge=1, description="Files after which a worker process is replaced."
    )
    worker_growth: int = Field(
        default=1024**3,
        gt=0,
        description="Bytes of memory beyond which a worker process is replaced after a file.",
    )
    isolation: Policy = Field(
        default=Policy.REQUIRE,
        description="`require`: start only if workers can be kept from the network, other files "
        "and secrets. `prefer`: isolate as well as this machine allows. `off`: do not isolate "
        "workers. The local stack defaults to `prefer`; see [docs/security.md](docs/security.md).",
    )
    worker_paths: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Files and directories that workers may read, comma-separated, beside "
        "programs, libraries and Python code: models of a plugin, say.",
    )
    backoff_first: float = Field(
        default=2.0,
        gt=0,
        description="Seconds before the second attempt; doubled for each later one.",
    )
    backoff_max: float = Field(
        default=3600.0, gt=0, description="Seconds the wait between two attempts never exceeds."
    )
    ocr: bool = Field(default=True, description="Read the text in images.")
    plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Modules with pipelines of your own, comma-separated, beside installed ones.",
    )
    scratch: str | None = Field(
        default=None, description="Directory for temporary files. Default: the system's."
    )
    pod: str = Field(
        default_factory=lambda: f"{os.uname().nodename}-{os.getpid()}",
        description="Name of this pod in events and logs. Default: host and process id.",
    )

    @field_validator("plugins", "worker_paths", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [each.strip() for each in value.split(",")] if isinstance(value, str) else value
