"""The commands of `waybill`."""

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
    help="Upload files, process them and follow them live.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
topics = typer.Typer(help="Manage the Kafka topics.", no_args_is_help=True)
app.add_typer(topics, name="topics")
blobs = typer.Typer(help="Manage the blob store.", no_args_is_help=True)
app.add_typer(blobs, name="blobs")
app.add_typer(dead.app, name="dead")


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    processors: Annotated[int, typer.Option(min=1, max=64, help="Number of processors.")] = 1,
    port: Annotated[
        int | None,
        typer.Option(help="Port of the status service and the page; 0 selects a free port."),
    ] = None,
    upload_port: Annotated[
        int | None, typer.Option(help="Port of the upload service; 0 selects a free port.")
    ] = None,
    samples: Annotated[
        bool, typer.Option(help="Upload sample documents on the first start.")
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
    wait: Annotated[bool, typer.Option("--wait", help="Follow files until terminal.")] = False,
    label: Annotated[list[str] | None, typer.Option(help="Label, key=value; repeatable.")] = None,
    content_type: Annotated[
        str | None, typer.Option("--type", help="Content type. Default: guessed from the name.")
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Upload straight to the object store.")
    ] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Accept files without content.")
    ] = False,
    url: Annotated[str | None, typer.Option("--url", help="URL of the upload service.")] = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Upload files."""
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the status document as JSON.")
    ] = False,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Show the status and history of a file."""
    with service(url, folder) as client:
        document = client.status(file_id)
        if as_json:
            console.print_json(data=document)
        else:
            show.print_status(document, client.events(file_id), console)


@app.command()
def events(
    file_id: str,
    as_json: Annotated[bool, typer.Option("--json", help="Print the history as JSON.")] = False,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Show the history of a file, with times (UTC) and durations."""
    with service(url, folder) as client:
        lines = client.events(file_id)
        if as_json:
            console.print_json(data=lines)
        else:
            show.print_story(client.status(file_id), lines, console)


@app.command("list")
def list_files(
    status: Annotated[list[str] | None, typer.Option(help="Only this status; repeatable.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only files of this owner.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only files of this batch.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only this label, key=value.")] = None,
    name: Annotated[str | None, typer.Option(help="Only files whose name contains this.")] = None,
    sort: Annotated[
        str, typer.Option(help="-created, created, -updated or updated; - means latest first.")
    ] = "-created",
    limit: Annotated[int, typer.Option(min=1, max=500, help="Maximum number of files.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print the files as JSON.")] = False,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the statistics as JSON.")] = False,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Show the number of files by status, and the processing rates."""
    with service(url, folder) as client:
        numbers = client.stats()
    if as_json:
        console.print_json(data=numbers)
    else:
        show.print_stats(numbers, console)


@app.command()
def stuck(url: Url = None, folder: Folder = DEFAULT_FOLDER) -> None:
    """List stuck files and the reason. Exits with 1 if there are any."""
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
        typer.Option(help="URL of a processor, such as http://10.0.0.7:8002; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Check this machine and the running services. Exits with 1 if a check fails."""
    from waybill.cli import doctor as checks

    found = find_addresses(status=url, folder=folder)
    context = checks.check_context(
        stack_description(folder),
        environment=stack_environment(folder),
        status=found.status,
        upload=found.upload,
        processors=processor or [],
    )
    findings = checks.examine(context)
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
    """Follow the given files live, or all files."""
    with service(url, folder) as client:
        show.watch(client, file_ids or [], console)


@app.command()
def cancel(
    file_ids: Ids,
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Cancel files that are pending or being processed."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.cancel(file_id, reason=reason),
            describe=lambda _: "is being cancelled",
        )


@app.command()
def retry(
    file_ids: Ids,
    force: Annotated[bool, typer.Option("--force", help="Retry completed files too.")] = False,
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Process failed or cancelled files again."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.retry(file_id, force=force, reason=reason),
            describe=lambda status: f"starts run {status['run']}",
        )


@app.command()
def share(
    file_ids: Ids,
    subject: Annotated[str, typer.Option("--with", help="Subject to share the files with.")],
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Share files with a subject of your tenant."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.share(file_id, subject, reason=reason),
            describe=commands.describe_shares,
        )


@app.command()
def unshare(
    file_ids: Ids,
    subject: Annotated[str, typer.Option("--with", help="Subject whose access is revoked.")],
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Revoke a subject's access to files."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.unshare(file_id, subject, reason=reason),
            describe=commands.describe_shares,
        )


@app.command()
def shares(file_ids: Ids, url: Url = None, folder: Folder = DEFAULT_FOLDER) -> None:
    """List the subjects that files are shared with."""
    with service(url, folder) as client:
        commands.command_each(file_ids, client.shares, describe=commands.describe_shares)


@app.command()
def delete(
    file_ids: Ids,
    reason: Reason = None,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Delete files and their results permanently."""
    with service(url, folder) as client:
        commands.command_each(
            file_ids,
            lambda file_id: client.delete(file_id, reason=reason),
            describe=lambda _: "is deleted",
        )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def replay(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Rebuild MongoDB from the log; `--verify` only compares."""
    raise typer.Exit(_run_module("services.status.replay", folder, *context.args))


PASS_THROUGH = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
"""For commands whose arguments, including `--help`, are parsed by a module of the services."""


@app.command(context_settings=PASS_THROUGH)
def token(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Print a token for development: `token SUBJECT [--role admin]`."""
    raise typer.Exit(_run_module("shared.auth.devtoken", folder, *context.args))


@app.command(context_settings=PASS_THROUGH)
def keys(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Manage API keys: `keys create SUBJECT`, `keys list`, `keys revoke ID`, `keys sign`."""
    raise typer.Exit(_run_module("shared.auth.apikeys", folder, *context.args))


@topics.command("apply")
def apply_topics(folder: Folder = DEFAULT_FOLDER) -> None:
    """Create missing topics."""
    raise typer.Exit(_run_module("shared.kafka.messaging", folder))


@topics.command("export")
def export_topics(
    archive: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for the backup; must not contain one.")
    ],
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Back up all topics to files, one per partition."""
    raise typer.Exit(_run_module("shared.kafka.archive", folder, "export", str(archive)))


@topics.command("import")
def import_topics(
    archive: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `export` wrote.")],
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Restore a backup into empty topics."""
    raise typer.Exit(_run_module("shared.kafka.archive", folder, "import", str(archive)))


@blobs.command("copy", context_settings=PASS_THROUGH)
def copy_blobs(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Copy all blobs from a directory to an object store: `copy s3://BUCKET/PREFIX`."""
    raise typer.Exit(_run_module("shared.blobs.blobcopy", folder, *context.args))


def _run_module(module: str, folder: Path, *arguments: str) -> int:
    """Run a module with the environment of the local stack and return its exit code."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=stack_environment(folder), check=False).returncode


def main() -> None:
    """Run the command line. Expected errors are printed in one line, without a traceback."""
    try:
        app()
    except (NoAnswerError, RefusedError, StackError) as error:
        line = Text("waybill:", style="red").append(f" {error}", style="default")
        errors.print(line, soft_wrap=True)
        sys.exit(1 if isinstance(error, StackError) else 2)
    except KeyboardInterrupt:
        sys.exit(130)
