"""The commands of `waybill`, as a table of contents."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from waybill.addresses import DEFAULT_FOLDER, find_addresses, stack_description, stack_environment
from waybill.cli import commands, dead, files, show
from waybill.cli.options import Folder, Ids, Reason, Url, console, errors, service
from waybill.client import Client
from waybill.errors import NoAnswerError, RefusedError, StackError

app = typer.Typer(
    help="Hand over a file, get a waybill, follow it live.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
topics = typer.Typer(help="The topics in Kafka.", no_args_is_help=True)
app.add_typer(topics, name="topics")
blobs = typer.Typer(help="The blob store.", no_args_is_help=True)
app.add_typer(blobs, name="blobs")
app.add_typer(dead.app, name="dead")


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    processors: Annotated[int, typer.Option(min=1, max=64, help="How many processors.")] = 1,
    port: Annotated[
        int | None, typer.Option(help="Port of the page and the status service; 0: a free one.")
    ] = None,
    upload_port: Annotated[
        int | None, typer.Option(help="Port of the upload service; 0: a free one.")
    ] = None,
    samples: Annotated[
        bool, typer.Option(help="Upload a few sample documents on the first start.")
    ] = False,
) -> None:
    """Start Kafka, MongoDB and the services; Ctrl-C stops them."""
    from waybill.cli.up import run_stack

    run_stack(
        folder,
        console=console,
        processors=processors,
        port=port,
        upload_port=upload_port,
        samples=samples,
    )


@app.command()
def upload(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE")],
    wait: Annotated[bool, typer.Option("--wait", help="Follow the files to their ends.")] = False,
    label: Annotated[list[str] | None, typer.Option(help="A label, key=value.")] = None,
    content_type: Annotated[
        str | None, typer.Option("--type", help="Content type, if the name does not tell.")
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Put them straight into the object store.")
    ] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Hand over files without content, too.")
    ] = False,
    url: Annotated[str | None, typer.Option("--url", help="Address of the upload service.")] = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Hand over files."""
    labels = files.parse_labels(label or [])
    with Client(find_addresses(upload=url, folder=folder)) as client:
        done = files.upload_all(
            client,
            paths,
            labels=labels,
            content_type=content_type,
            wait=wait,
            direct=direct,
            allow_empty=allow_empty,
            console=console,
        )
    raise typer.Exit(0 if done else 1)


@app.command()
def status(
    file_id: str,
    as_json: Annotated[bool, typer.Option("--json", help="The status document itself.")] = False,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Show what is known of a file."""
    with service(url, folder) as client:
        document = client.status(file_id)
        if as_json:
            console.print_json(data=document)
        else:
            show.print_status(document, client.events(file_id), console)


@app.command()
def events(
    file_id: str,
    as_json: Annotated[bool, typer.Option("--json", help="The lines as JSON.")] = False,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Tell what happened to a file, in order, with times (UTC) and durations."""
    with service(url, folder) as client:
        lines = client.events(file_id)
        if as_json:
            console.print_json(data=lines)
        else:
            show.print_story(client.status(file_id), lines, console)


@app.command("list")
def list_files(
    status: Annotated[list[str] | None, typer.Option(help="Only these; may be repeated.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only those of this batch.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only with this, key=value.")] = None,
    name: Annotated[str | None, typer.Option(help="Only with this in their names.")] = None,
    sort: Annotated[
        str, typer.Option(help="-created, created, -updated or updated; with -: latest first.")
    ] = "-created",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="The documents as JSON.")] = False,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """List files, newest first."""
    labels = [f"{key}:{value}" for key, value in files.parse_labels(label or []).items()]
    with service(url, folder) as client:
        found = client.files(
            limit=limit,
            status=status,
            owner=owner,
            batch_id=batch,
            label=labels,
            name=name,
            sort=sort,
        )
    if as_json:
        console.print_json(data=found)
    else:
        show.print_files(found, console)
    if not found:
        errors.print("No file matches.")


@app.command()
def stats(
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Show how many files wait, are worked on and have ended, and how fast."""
    with service(url, folder) as client:
        numbers = client.stats()
    if as_json:
        console.print_json(data=numbers)
    else:
        show.print_stats(numbers, console)


@app.command()
def stuck(url: Url = None, folder: Folder = DEFAULT_FOLDER) -> None:
    """List files that do not go on, and why; exit with 1 if there are any."""
    with service(url, folder) as client:
        found = client.stuck()
    show.print_stuck(found, console)
    if not found:
        console.print("No file is stuck.")
    raise typer.Exit(1 if found else 0)


@app.command()
def doctor(
    processor: Annotated[
        list[str] | None,
        typer.Option(help="Address of a processor, such as http://10.0.0.7:8002; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Check this machine and the running services; exit with 1 if a check fails."""
    from waybill.cli import doctor as checks

    found = find_addresses(status=url, folder=folder)
    around = checks.surroundings(
        stack_description(folder),
        environment=stack_environment(folder),
        status=found.status,
        upload=found.upload,
        processors=processor or [],
    )
    findings = checks.examine(around)
    if as_json:
        console.print_json(data=[vars(each) for each in findings])
    else:
        checks.print_findings(findings, console)
    raise typer.Exit(1 if any(each.state == "failed" for each in findings) else 0)


@app.command()
def watch(
    file_ids: Annotated[list[str] | None, typer.Argument(metavar="ID")] = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Follow some files, or all, live."""
    with service(url, folder) as client:
        show.watch(client, file_ids or [], console)


@app.command()
def cancel(
    file_ids: Ids,
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Stop the work on files that wait or are being processed."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.cancel(file_id, reason=reason),
            told=lambda _: "is being cancelled",
        )


@app.command()
def retry(
    file_ids: Ids,
    force: Annotated[bool, typer.Option("--force", help="Also if it is completed.")] = False,
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Work once more on files that failed or were cancelled."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.retry(file_id, force=force, reason=reason),
            told=lambda status: f"starts run {status['run']}",
        )


@app.command()
def share(
    file_ids: Ids,
    subject: Annotated[str, typer.Option("--with", help="Who is to read them.")],
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Let somebody else of your tenant read files."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.share(file_id, subject, reason=reason),
            told=commands.readers,
        )


@app.command()
def unshare(
    file_ids: Ids,
    subject: Annotated[str, typer.Option("--with", help="Who is to read them no longer.")],
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Let somebody read files no longer."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.unshare(file_id, subject, reason=reason),
            told=commands.readers,
        )


@app.command()
def shares(file_ids: Ids, url: Url = None, folder: Folder = DEFAULT_FOLDER) -> None:
    """Tell with whom files are shared."""
    with service(url, folder) as client:
        commands.command_each(file_ids, client.shares, told=commands.readers)


@app.command()
def delete(
    file_ids: Ids,
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Delete files for good, with their results."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.delete(file_id, reason=reason),
            told=lambda _: "is deleted",
        )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def replay(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Rebuild MongoDB from the log; `--verify` only compares."""
    raise typer.Exit(_run_module("services.status.replay", folder, *context.args))


PASSED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
"""For commands whose arguments, `--help` included, are read by a module of the services."""


@app.command(context_settings=PASSED_ON)
def token(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Print a token for development: `token SUBJECT [--role admin]`."""
    raise typer.Exit(_run_module("shared.auth.devtoken", folder, *context.args))


@app.command(context_settings=PASSED_ON)
def keys(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Manage API keys: `keys create SUBJECT`, `keys list`, `keys revoke ID`, `keys sign`."""
    raise typer.Exit(_run_module("shared.auth.apikeys", folder, *context.args))


@topics.command("apply")
def apply_topics(folder: Folder = DEFAULT_FOLDER) -> None:
    """Create the topics that are missing."""
    raise typer.Exit(_run_module("shared.kafka.messaging", folder))


@topics.command("export")
def export_topics(
    archive: Annotated[Path, typer.Argument(metavar="DIR", help="A folder without an archive.")],
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Write all topics into files, one for each partition, as a backup."""
    raise typer.Exit(_run_module("shared.kafka.archive", folder, "export", str(archive)))


@topics.command("import")
def import_topics(
    archive: Annotated[Path, typer.Argument(metavar="DIR", help="As `export` wrote it.")],
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Put the records of a backup into topics that are empty."""
    raise typer.Exit(_run_module("shared.kafka.archive", folder, "import", str(archive)))


@blobs.command("copy", context_settings=PASSED_ON)
def copy_blobs(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Copy all blobs into an object store, to leave a directory: `copy s3://BUCKET/PREFIX`."""
    raise typer.Exit(_run_module("shared.blobs.blobcopy", folder, *context.args))


def _run_module(module: str, folder: Path, *arguments: str) -> int:
    """Run a service's command with the environment of the local stack."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=stack_environment(folder), check=False).returncode


def main() -> None:
    """Run the command line; an expected error is one line, not a traceback."""
    try:
        app()
    except (NoAnswerError, RefusedError, StackError) as error:
        line = Text("waybill:", style="red").append(f" {error}", style="default")
        errors.print(line, soft_wrap=True)
        sys.exit(1 if isinstance(error, StackError) else 2)
    except KeyboardInterrupt:
        sys.exit(130)
