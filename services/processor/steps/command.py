"""Run a command line tool as a step."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from services.processor.steps.document import Context, Document, Step
from shared.workerrors import PermanentError, TransientError

MAX_OUTPUT = 64 << 20
"""Bytes of a command's output that are kept; they are read into memory at once."""

TEMPORARY_FAILURE = 75
"""Exit code that asks for a retry: EX_TEMPFAIL of sysexits(3)."""

MAX_COMPLAINT = 300
"""Characters of a command's error output that go into the message."""


def command_step(
    command: Sequence[str],
    *,
    artifact: str | None = None,
    content_type: str = "application/octet-stream",
    as_text: bool = False,
) -> Step:
    """Create a step that runs a command. `{path}` and `{scratch}` in its arguments are replaced.

    Args:
        artifact: name of the artifact that stores its standard output.
        content_type: type of that artifact.
        as_text: use standard output as the text of the document.
    """
    name = Path(command[0]).name

    def run(document: Document, context: Context) -> Document:
        scratch = context.scratch
        arguments = [
            each.replace("{path}", str(document.path)).replace("{scratch}", str(scratch))
            for each in command
        ]
        output, complaint = scratch / f"{name}.out", scratch / f"{name}.err"
        with output.open("wb") as out, complaint.open("wb") as err:
            try:
                ended = subprocess.run(  # noqa: S603 - the operator of the pod chose the command
                    arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False
                )
            except (FileNotFoundError, PermissionError):
                raise PermanentError(
                    "command_missing", f"The program {name} is not installed on the processor."
                ) from None
        if ended.returncode != 0:
            raise _failed(name, ended.returncode, complaint)
        if output.stat().st_size > MAX_OUTPUT:
            message = f"{name} wrote more than {MAX_OUTPUT >> 20} MiB of output."
            raise PermanentError("result_too_large", message)
        content = output.read_bytes()
        if artifact is not None:
            context.artifact(artifact, content_type, content)
        if as_text:
            document.text = content.decode(errors="replace")
        return document

    run.__name__ = name
    return run


def _failed(name: str, code: int, complaint: Path) -> PermanentError | TransientError:
    lines = complaint.read_bytes()[-4 * MAX_COMPLAINT :].decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    message = f"{name} failed with exit code {code}. {last[:MAX_COMPLAINT]}".strip()
    if code == TEMPORARY_FAILURE:
        return TransientError("command_postponed", message)
    return PermanentError("command_failed", message)
