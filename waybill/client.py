"""A small client: hand a file over, look at its status, follow it to its end."""

import json
import mimetypes
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx

from waybill.addresses import Addresses, find_addresses
from waybill.errors import NoAnswerError, RefusedError

BLOCK = 1 << 18
"""Bytes that are read from a file and sent at a time."""

TIMEOUT = httpx.Timeout(30.0, read=120.0)
"""Seconds; a large upload is answered only when it is stored."""

SILENCE = 60.0
"""Seconds without even a heartbeat after which a stream counts as broken."""

RECONNECT_DELAYS = (0.5, 1.0, 2.0, 5.0)
"""Seconds before a broken stream is opened again; the last one repeats."""

TERMINAL = frozenset({"completed", "failed", "cancelled"})

Status = dict[str, Any]
"""A status document, as the status service answers it."""

HistoryLine = dict[str, Any]
"""A line of a file's history, as the status service answers it."""

DeadLetter = dict[str, Any]
"""A dead letter, as the status service answers it."""


class Client:
    """Talks to one Waybill.

    Methods raise `RefusedError` for a problem document and `NoAnswerError` if nobody answers.
    """

    def __init__(self, addresses: Addresses | None = None) -> None:
        self.addresses = addresses or find_addresses()
        self._http = httpx.Client(timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def upload(
        self,
        path: Path,
        *,
        content_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        on_sent: Callable[[int], None] = lambda _: None,
    ) -> Status:
        """Hand over a file; it is streamed from the disk.

        Args:
            on_sent: called with the number of bytes, each time some were sent.

        Raises:
            OSError: the file cannot be read.
        """
        with path.open("rb") as file:

            def blocks() -> Iterator[bytes]:
                while block := file.read(BLOCK):
                    yield block
                    on_sent(len(block))

            size = path.stat().st_size
            return self.upload_bytes(
                path.name, blocks(), size=size, content_type=content_type, labels=labels
            )

    def upload_bytes(
        self,
        name: str,
        content: Iterable[bytes],
        *,
        size: int,
        content_type: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Status:
        """Hand over a file of `size` bytes that comes in blocks."""
        guessed = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        params = {"name": name} | {f"label.{key}": value for key, value in (labels or {}).items()}
        return self._answer(
            "POST",
            f"{self.addresses.upload}/api/files/upload",
            params=params,
            content=content,
            headers={"Content-Type": guessed, "Content-Length": str(size)},
        )

    def status(self, file_id: str, *, wait: float | None = None) -> Status:
        """The status document of a file.

        Args:
            wait: seconds to wait for the next change, if the file is not terminal yet.
        """
        params = {} if wait is None else {"wait": str(wait)}
        return self._answer("GET", f"{self._file_url(file_id)}/process/status", params=params)

    def wait(self, file_id: str, *, seconds: float = 3600.0) -> Status:
        """The status document of a file once it is terminal.

        Raises:
            TimeoutError: it is not terminal by then.
        """
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            document = self.status(file_id, wait=min(remaining, 20.0))
            if document["status"] in TERMINAL:
                return document
        raise TimeoutError(f"{file_id} is not terminal after {seconds:g} s")

    def cancel(self, file_id: str, *, reason: str | None = None) -> Status:
        """Ask for the work on a file to be stopped; returns its status as of now."""
        params = {} if reason is None else {"reason": reason}
        return self._answer("POST", f"{self._file_url(file_id)}/cancel", params=params)

    def retry(self, file_id: str, *, force: bool = False, reason: str | None = None) -> Status:
        """Have a file that has ended worked on again, as its next run; returns its new status.

        Args:
            force: also if it is completed.
        """
        params = {"force": force} | ({} if reason is None else {"reason": reason})
        return self._answer("POST", f"{self._file_url(file_id)}/retry", params=params)

    def files(self, *, limit: int = 50) -> list[Status]:
        """The newest files, newest first."""
        page = self._answer("GET", f"{self.addresses.status}/api/files", params={"limit": limit})
        items: list[Status] = page["items"]
        return items

    def events(self, file_id: str) -> list[HistoryLine]:
        """What happened to a file, in order, with times and durations."""
        items: list[HistoryLine] = self._answer("GET", f"{self._file_url(file_id)}/events")["items"]
        return items

    def stats(self) -> dict[str, Any]:
        """Counts, rates and ages of all files, and who is behind."""
        return self._answer("GET", f"{self.addresses.status}/api/stats")

    def stuck(self) -> list[dict[str, Any]]:
        """Files that do not go on, longest silent first, with the reasons."""
        items: list[dict[str, Any]] = self._answer(
            "GET", f"{self.addresses.status}/api/admin/stuck"
        )["items"]
        return items

    def dead_letters(self, *, limit: int = 50, code: str | None = None) -> list[DeadLetter]:
        """The newest dead letters, newest first, without their payloads.

        Args:
            code: only these: `unreadable`, `unknown_version` or `given_up`.
        """
        params = {"limit": str(limit)} | ({} if code is None else {"code": code})
        page = self._answer("GET", f"{self.addresses.status}/api/admin/dead", params=params)
        items: list[DeadLetter] = page["items"]
        return items

    def dead_letter(self, letter_id: str) -> DeadLetter:
        """One dead letter, with the record's value in base64."""
        return self._answer("GET", self._dead_url(letter_id))

    def redrive(self, letter_id: str) -> DeadLetter:
        """Start a file that was given up anew, or put a record back that could not be read."""
        return self._answer("POST", f"{self._dead_url(letter_id)}/redrive")

    def watch(self, file_ids: Iterable[str] = ()) -> Iterator[Status]:
        """Every change of some files, or of all; opens the stream again whenever it breaks."""
        params = {"ids": ",".join(file_ids)}
        failures = 0
        while True:
            try:
                for document in self._stream(
                    {key: value for key, value in params.items() if value}
                ):
                    failures = 0
                    yield document
            except httpx.TransportError as error:
                if failures >= len(RECONNECT_DELAYS):
                    raise self._no_answer(self.addresses.status) from error
            time.sleep(RECONNECT_DELAYS[min(failures, len(RECONNECT_DELAYS) - 1)])
            failures += 1

    def _stream(self, params: Mapping[str, str]) -> Iterator[Status]:
        url = f"{self.addresses.status}/api/stream"
        timeout = httpx.Timeout(30.0, read=SILENCE)
        with self._http.stream("GET", url, params=params, timeout=timeout) as response:
            if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                raise httpx.ReadError("the service is starting")
            if response.is_error:
                response.read()
                raise _refusal(response)
            named = False
            for line in response.iter_lines():
                if line.startswith("data: ") and not named:
                    yield json.loads(line.removeprefix("data: "))
                named = line.startswith("event: ")  # A state has no name.

    def _file_url(self, file_id: str) -> str:
        return f"{self.addresses.status}/api/files/{quote(file_id, safe='')}"

    def _dead_url(self, letter_id: str) -> str:
        return f"{self.addresses.status}/api/admin/dead/{quote(letter_id, safe='')}"

    def _answer(self, method: str, url: str, **request: Any) -> Status:
        try:
            response = self._http.request(method, url, **request)
        except httpx.TransportError as error:
            raise self._no_answer(url) from error
        if response.is_error:
            raise _refusal(response)
        document: Status = response.json()
        return document

    def _no_answer(self, url: str) -> NoAnswerError:
        origin = httpx.URL(url).copy_with(path="/", query=None)
        return NoAnswerError(f"No Waybill answers at {origin}; start one with `make run`.")


def _refusal(response: httpx.Response) -> RefusedError:
    try:
        problem = response.json()
        return RefusedError(problem["code"], problem["detail"])
    except (ValueError, KeyError, TypeError):
        return RefusedError(f"http_{response.status_code}", response.reason_phrase)
