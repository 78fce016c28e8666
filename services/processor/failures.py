"""Every way in which the work on a file may end badly: one table.

`docs/formats.md` shows it. A step that raises a `PermanentError` or a `TransientError` has a code
here too; what it says of the file itself is better than what stands here, and goes before it.
"""

from dataclasses import dataclass

from shared.events.facts import Failure


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to end badly."""

    code: str
    meaning: str
    advice: str
    """What whoever sent the file, or runs the pod, can do."""
    retryable: bool


def _for_good(code: str, meaning: str, advice: str) -> Kind:
    return Kind(code, meaning, advice, retryable=False)


def _for_now(code: str, meaning: str, advice: str) -> Kind:
    return Kind(code, meaning, advice, retryable=True)


OF_THE_FILE = (
    _for_good(
        "corrupt_document",
        "The file is damaged.",
        "Save it anew with the program that made it.",
    ),
    _for_good(
        "encrypted_document",
        "A PDF or an office document is protected by a password.",
        "Send a copy without one.",
    ),
    _for_good(
        "content_type_mismatch",
        "It is no PDF, office document or image, though declared one.",
        "Send it with its right name and type.",
    ),
    _for_good("document_too_large", "A document has more than 200 MiB.", "Send it in parts."),
    _for_good("image_too_large", "More than 89 million pixels.", "Send it at a lower resolution."),
    _for_good(
        "decompression_bomb",
        "It claims to unpack to far more than its size.",
        "If it is genuine, send it in parts.",
    ),
    _for_good("bad_demo", "A demo file is none.", "Compare it with the end of this page."),
    _for_good("demo_failed", "A demo file failed as it asked to.", "Nothing is wrong."),
    _for_now("demo_retry", "A demo file failed as it asked to.", "Wait for its next attempt."),
    _for_good(
        "demo_disabled",
        "Demo files are not processed here.",
        "Set WAYBILL_DEMO=true.",
    ),
    _for_good(
        "content_changed",
        "The stored file is not the one whose SHA-256 was told.",
        "Upload it again.",
    ),
    _for_good("blob_missing", "The stored file is gone.", "Upload it again."),
)
"""What is wrong with a file."""

OF_THE_STEP = (
    _for_now(
        "step_failed",
        "A step raised an error that it did not foresee.",
        "The processor's log has the whole of it.",
    ),
    _for_good(
        "bad_result",
        "A step gave back something that is no result.",
        "Have the step corrected; the processor's log says more.",
    ),
    _for_good(
        "result_too_large",
        "The result is too large to be told.",
        "Keep more of it in artifacts.",
    ),
    _for_good(
        "too_much_output",
        "The work wrote endlessly to its standard output.",
        "Have the step write less; what it has to say belongs into artifacts.",
    ),
    _for_good(
        "out_of_memory",
        "The work needed more memory than one worker may use.",
        "Send the file in parts, or raise WAYBILL_MEMORY_LIMIT.",
    ),
    _for_good(
        "file_too_large",
        "The work wrote a temporary file that is larger than it may be.",
        "Send the file in parts, or raise WAYBILL_FILE_LIMIT.",
    ),
    _for_now(
        "too_many_processes",
        "The work started more processes than it may.",
        "Have the step corrected; if it reads files from strangers, treat this one as malicious.",
    ),
    _for_now(
        "timed_out",
        "The work took longer than it may.",
        "Send the file in parts, or raise WAYBILL_TIME_LIMIT.",
    ),
    _for_good(
        "command_failed",
        "The program of a plugin's step failed.",
        "Its last words are in the message.",
    ),
    _for_now(
        "command_postponed",
        "The program of a plugin's step asked for another try (exit code 75).",
        "Wait for the next attempt.",
    ),
    _for_good(
        "command_missing",
        "The program of a plugin's step is not installed.",
        "Install it where the processor runs.",
    ),
    _for_now(
        "http_unavailable",
        "The service of a plugin's step does not answer, or asks for patience.",
        "Wait for the next attempt.",
    ),
    _for_good(
        "http_refused",
        "The service of a plugin's step refused the file.",
        "The status it answered is in the message.",
    ),
    _for_now(
        "pipeline_missing",
        "The plugin that this file needs is not installed.",
        "Install it on every pod; the pod's log names those it has.",
    ),
    _for_now(
        "worker_exited",
        "The work ended its own process.",
        "Have the step corrected: it must return, and never exit.",
    ),
    _for_now(
        "segmentation_fault",
        "A native library broke the process of the work.",
        "If the next attempt ends in the same way, the file fails.",
    ),
    _for_good(
        "document_crashes_reader",
        "The document crashes the program that reads it, twice in the same way.",
        "It is damaged or malicious. Save it anew with the program that made it, or report it to "
        "the library.",
    ),
    _for_now(
        "worker_garbled",
        "The worker process stopped making sense.",
        "If it happens each time, treat the file as malicious.",
    ),
)
"""What a step may do wrong, whatever the type of the file."""

OF_THE_MACHINE = (
    _for_now(
        "worker_crashed",
        "The worker process or its whole pod was killed.",
        "If it happens each time, the machine has too little memory for this file.",
    ),
    _for_now(
        "disk_full",
        "The disk for temporary files is full.",
        "Make room, or name another directory with WAYBILL_SCRATCH.",
    ),
    _for_now(
        "machine_failed",
        "The machine failed: a disk, or a limit of the whole system.",
        "Wait for the next attempt; the processor's log says more.",
    ),
    _for_now(
        "blob_store_unavailable", "The blob store does not answer.", "Wait for the next attempt."
    ),
    _for_now("storage_full", "The blob store is full.", "Make room in it, or enlarge it."),
    _for_now(
        "internal",
        "The processor failed in a way that nobody foresaw.",
        "Report it, with the processor's log.",
    ),
)
"""What may go wrong around the work."""

KINDS = {each.code: each for each in (*OF_THE_FILE, *OF_THE_STEP, *OF_THE_MACHINE)}


def failure(code: str, meaning: str | None = None) -> Failure:
    """A failure of this kind.

    Args:
        meaning: what happened this time, in a sentence, where more is known than the table says.
    """
    kind = KINDS[code]
    message = f"{meaning or kind.meaning} {kind.advice}"
    return Failure(code=code, message=message, retryable=kind.retryable)
