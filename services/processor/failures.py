"""The table of all processing failures.

It is published in `docs/formats.md`. Steps that raise `PermanentError` or `TransientError` use the
same codes; their own message about the file replaces the text of the table.
"""

from dataclasses import dataclass

from shared.events.facts import Failure


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of failure."""

    code: str
    meaning: str
    advice: str
    """What the sender of the file, or the operator, can do."""
    retryable: bool


def _permanent(code: str, meaning: str, advice: str) -> Kind:
    return Kind(code, meaning, advice, retryable=False)


def _transient(code: str, meaning: str, advice: str) -> Kind:
    return Kind(code, meaning, advice, retryable=True)


OF_THE_FILE = (
    _permanent(
        "corrupt_document",
        "The file is damaged.",
        "Save it again with the program that created it.",
    ),
    _permanent(
        "encrypted_document",
        "The PDF or office document is protected by a password.",
        "Send a copy without a password.",
    ),
    _permanent(
        "content_type_mismatch",
        "The file was declared as a PDF, office document or image, but is none of these.",
        "Send it with the right name and type.",
    ),
    _permanent(
        "document_too_large", "The document is larger than 200 MiB.", "Split it into parts."
    ),
    _permanent(
        "image_too_large",
        "The image has more than 89 million pixels.",
        "Send it at a lower resolution.",
    ),
    _permanent(
        "decompression_bomb",
        "The file claims to unpack to far more than its size.",
        "If it is genuine, split it into parts.",
    ),
    _permanent(
        "bad_demo",
        "The demo file is invalid.",
        "Compare it with the format at the end of this page.",
    ),
    _permanent("demo_failed", "The demo file failed, as it requested.", "Nothing is wrong."),
    _transient(
        "demo_retry", "The demo file failed, as it requested.", "Wait for the next attempt."
    ),
    _permanent(
        "demo_disabled",
        "Demo files are disabled on this processor.",
        "Set WAYBILL_DEMO=true to enable them.",
    ),
    _permanent(
        "content_changed",
        "The stored file does not match the SHA-256 recorded at upload.",
        "Upload it again.",
    ),
    _permanent("blob_missing", "The stored file no longer exists.", "Upload it again."),
)
"""Failures caused by the file."""

OF_THE_STEP = (
    _transient(
        "step_failed",
        "A step raised an unexpected error.",
        "See the processor's log for the traceback.",
    ),
    _permanent(
        "bad_result",
        "A step returned an invalid result.",
        "Fix the step; see the processor's log for details.",
    ),
    _permanent(
        "result_too_large",
        "The result is too large to publish.",
        "Move more of it into artifacts.",
    ),
    _permanent(
        "too_much_output",
        "The step wrote too much to its standard output.",
        "Make the step write less; store long output as an artifact.",
    ),
    _permanent(
        "out_of_memory",
        "The step needed more memory than a worker may use.",
        "Split the file into parts, or raise WAYBILL_MEMORY_LIMIT.",
    ),
    _permanent(
        "file_too_large",
        "The step wrote a temporary file that exceeds the size limit.",
        "Split the file into parts, or raise WAYBILL_FILE_LIMIT.",
    ),
    _transient(
        "too_many_processes",
        "The step started too many processes.",
        "Fix the step; if it reads untrusted files, treat this file as malicious.",
    ),
    _transient(
        "timed_out",
        "Processing exceeded the time limit.",
        "Split the file into parts, or raise WAYBILL_TIME_LIMIT.",
    ),
    _permanent(
        "command_failed",
        "The program of a plugin step failed.",
        "The message contains the end of its error output.",
    ),
    _transient(
        "command_postponed",
        "The program of a plugin step asked for a retry (exit code 75).",
        "Wait for the next attempt.",
    ),
    _permanent(
        "command_missing",
        "The program of a plugin step is not installed.",
        "Install it on the processor.",
    ),
    _transient(
        "http_unavailable",
        "The service of a plugin step is unavailable or asks to retry later.",
        "Wait for the next attempt.",
    ),
    _permanent(
        "http_refused",
        "The service of a plugin step rejected the file.",
        "The message contains the status code that it returned.",
    ),
    _transient(
        "pipeline_missing",
        "The plugin for this file is not installed.",
        "Install it on every pod; each pod logs the plugins that it has.",
    ),
    _transient(
        "worker_exited",
        "The step ended its own process.",
        "Fix the step: it must return instead of exiting.",
    ),
    _transient(
        "segmentation_fault",
        "A native library crashed the worker process.",
        "If the next attempt crashes in the same way, the file fails.",
    ),
    _permanent(
        "document_crashes_reader",
        "The document crashed its parser twice in the same way.",
        "It is damaged or malicious. Save it again with the program that created it, or report it "
        "to the authors of the library.",
    ),
    _transient(
        "worker_garbled",
        "The worker process sent invalid data.",
        "If every attempt ends this way, treat the file as malicious.",
    ),
)
"""Failures caused by a step, for files of any type."""

OF_THE_MACHINE = (
    _transient(
        "worker_crashed",
        "The worker process or its pod was killed.",
        "If every attempt ends this way, the machine has too little memory for this file.",
    ),
    _transient(
        "disk_full",
        "The disk for temporary files is full.",
        "Free some space, or set WAYBILL_SCRATCH to another directory.",
    ),
    _transient(
        "machine_failed",
        "The machine failed: a disk error, or a system-wide limit.",
        "Wait for the next attempt; see the processor's log for details.",
    ),
    _transient(
        "blob_store_unavailable", "The blob store does not answer.", "Wait for the next attempt."
    ),
    _transient("storage_full", "The blob store is full.", "Free some space, or enlarge it."),
    _transient(
        "internal",
        "The processor failed with an unexpected error.",
        "Report it, and include the processor's log.",
    ),
)
"""Failures of the machine and of other services."""

KINDS = {each.code: each for each in (*OF_THE_FILE, *OF_THE_STEP, *OF_THE_MACHINE)}


def failure(code: str, meaning: str | None = None) -> Failure:
    """Return a failure of this kind.

    Args:
        meaning: a sentence on this occurrence, where more is known than the table says.
    """
    kind = KINDS[code]
    message = f"{meaning or kind.meaning} {kind.advice}"
    return Failure(code=code, message=message, retryable=kind.retryable)
