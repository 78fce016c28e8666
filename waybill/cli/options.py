"""Consoles and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from waybill.addresses import find_addresses
from waybill.client import Client

console = Console()
errors = Console(stderr=True)

Folder = Annotated[Path, typer.Option("--dir", help="Folder of the local stack.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID")]
Reason = Annotated[str | None, typer.Option(help="Reason, recorded in the file's history.")]
Url = Annotated[str | None, typer.Option("--url", help="URL of the status service.")]


def service(url: str | None, folder: Path) -> Client:
    """Return a client for the status service at `url`, or for the local stack in `folder`."""
    return Client(find_addresses(status=url, folder=folder))
