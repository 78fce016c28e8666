"""`waybill up`."""

import re
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from waybill.addresses import Addresses
from waybill.client import Client
from waybill.errors import RefusedError
from waybill.local.stack import Stack
from waybill.samples import sample_files

SAMPLES_MARKER = "samples-uploaded"


def run_stack(
    folder: Path,
    *,
    console: Console,
    processors: int,
    port: int | None,
    upload_port: int | None,
    samples: bool,
) -> None:
    """Run the local stack until Ctrl-C."""

    def report(line: str) -> None:
        console.print(Text("waybill:", style="dim").append(f" {line}", "not dim"), soft_wrap=True)

    def on_ready(stack: Stack) -> None:
        described = stack.describe()
        page, upload = described["status_url"], described["upload_url"]
        if samples:
            _upload_samples(stack, Addresses(status=page, upload=upload), report)
        console.print(
            f"\n  [bold green]Waybill is ready.[/bold green]\n\n"
            f"  page     {page}\n"
            f"  upload   curl -F file=@FILE {upload}/api/files/upload\n"
            f"  API      {page}/docs · {upload}/docs\n"
            f"  Kafka    {described['kafka']}\n"
            f"  MongoDB  {without_password(described['mongodb'])}\n"
            f"  data     {folder}/ (logs in {folder}/logs)\n\n"
            f"  Press Ctrl-C to stop.\n",
            highlight=False,
            soft_wrap=True,
        )

    Stack(
        folder=folder, report=report, processors=processors, port=port, upload_port=upload_port
    ).run(on_ready)


def without_password(uri: str) -> str:
    """Return a connection string without its credentials."""
    return re.sub(r"//[^@/]*@", "//…@", uri)


def _upload_samples(stack: Stack, addresses: Addresses, report: Callable[[str], None]) -> None:
    """Upload the sample documents, once per folder."""
    marker = stack.folder / SAMPLES_MARKER
    if marker.exists():
        return
    try:
        with Client(addresses) as client:
            for sample in sample_files():
                client.upload_bytes(
                    sample.name,
                    [sample.content],
                    size=len(sample.content),
                    content_type=sample.content_type,
                    labels={"sample": "yes"},
                )
    except RefusedError as error:  # The services require a token.
        report(f"sample documents not uploaded: {error}")
        return
    marker.touch()
    report("sample documents uploaded")
