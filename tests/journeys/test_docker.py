"""Waybill by `docker compose`, where a Docker daemon runs and has the images; nothing is pulled.

`PYTHON_IMAGE`, `KAFKA_IMAGE` and `MONGODB_IMAGE` name other images than the usual ones.
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from waybill.local.containers import KAFKA_IMAGE, MONGODB_IMAGE
from waybill.local.ports import HOST, free_port
from waybill.samples import SampleFile, demo_sample, pdf_sample, picture_sample

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {
    "PYTHON_IMAGE": "python:3.11-slim-bookworm",
    "KAFKA_IMAGE": KAFKA_IMAGE,
    "MONGODB_IMAGE": MONGODB_IMAGE,
}
SERVICES = ("upload", "processor", "status")
KILLED = "137"
"""The exit code of a container that Docker had to kill."""


class Project:
    """A Waybill of this test's own, beside whatever else runs on this machine."""

    def __init__(self) -> None:
        self.name = f"waybill-test-{uuid.uuid4().hex[:8]}"
        status_port, upload_port = free_port(), free_port()
        self.status_url = f"http://{HOST}:{status_port}"
        self.upload_url = f"http://{HOST}:{upload_port}"
        self._environment = {
            **os.environ,
            "SERVICE_IMAGE": self.name,
            "STATUS_PORT": str(status_port),
            "UPLOAD_PORT": str(upload_port),
            "WAYBILL_DEMO": "true",
        }

    def compose(self, *arguments: str) -> str:
        """Run `docker compose`; returns what it prints."""
        return self._run("docker", "compose", "--project-name", self.name, *arguments)

    def docker(self, *arguments: str) -> str:
        """Run `docker`; returns what it prints."""
        return self._run("docker", *arguments)

    def upload(self, sample: SampleFile) -> str:
        """Hand over a file; returns its id."""
        answer = httpx.post(
            f"{self.upload_url}/api/files/upload",
            params={"name": sample.name},
            content=sample.content,
            headers={"content-type": sample.content_type},
        )
        assert answer.status_code == 202, answer.text
        assert answer.json()["status_url"].startswith(self.status_url)
        return str(answer.json()["file_id"])

    def next_status(self, file_id: str) -> dict[str, Any]:
        """The status document after its next change, or now if nothing more will change."""
        url = f"{self.status_url}/api/files/{file_id}/process/status"
        document: dict[str, Any] = httpx.get(url, params={"wait": 30}, timeout=60).json()
        return document

    def wait_until(self, file_id: str, status: str) -> dict[str, Any]:
        """Follow the file until it has this status."""
        while (document := self.next_status(file_id))["status"] != status:
            assert document["status"] not in {"completed", "failed"}, document
        return document

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def missing() -> str | None:
    """Why this cannot be tried here; None if it can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    for command in (["info"], ["compose", "version"]):
        if subprocess.run(["docker", *command], capture_output=True, check=False).returncode:
            return f"`docker {' '.join(command)}` fails: no daemon, or no compose plugin"
    for variable, usual in IMAGES.items():
        image = os.environ.get(variable, usual)
        found = subprocess.run(
            ["docker", "image", "inspect", image], capture_output=True, check=False
        )
        if found.returncode:
            return f"the Docker daemon has no image {image}; {variable} may name another"
    return None


@pytest.fixture
def project() -> Iterator[Project]:
    if reason := missing():
        pytest.skip(reason)
    project = Project()
    yield project
    project.compose("down", "--volumes", "--timeout", "5")
    project.docker("image", "rm", project.name)


@pytest.mark.timeout(1200)
def test_files_get_through_though_a_processor_is_killed(project: Project) -> None:
    project.compose("up", "--build", "--wait", "--scale", "processor=2")

    # Their readers load libraries and models, in a container that may write nearly nothing.
    documents = [project.upload(pdf_sample()), project.upload(picture_sample())]
    journeys = [project.upload(demo_sample("d.json", seconds=4, steps=4)) for _ in range(6)]
    victim = project.wait_until(journeys[0], "processing")["history"][-1]["pod"]
    host, _, _ = victim.rpartition("-")
    project.docker("kill", host)

    for file_id in documents + journeys:
        project.wait_until(file_id, "completed")
    assert project.next_status(journeys[0])["attempt"] == 2

    ours = project.compose("ps", "--quiet", *SERVICES).split()
    project.compose("stop")
    ends = project.docker("inspect", "--format", "{{.State.ExitCode}}", *ours).split()
    assert len(ends) == 3
    assert KILLED not in ends
