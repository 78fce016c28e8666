"""Texts of the sample documents. Each explains a part of Waybill."""

PDF_PAGES = (
    """
How a file travels

Waybill accepts files, processes them in the background,
and shows the progress of each one.

Every uploaded file gets a waybill: an identifier of its own.
With it you can follow the file live at every step,
or read its history next week.

An upload is answered quickly, because nothing is processed yet.
The answer means one thing: the file is stored safely, and so is
the event that queues it for processing.
""",
    """
The three services

The upload service stores the file in the blob store, detects its
type from its first bytes, and publishes the event "file uploaded"
to Kafka.

The processor consumes the event and does the work in a separate
process. A file that crashes, hangs or uses too much memory affects
no other. Failed attempts are retried after a growing delay.

The status service folds all events into one document for each file,
stores it in MongoDB, and pushes every change to its subscribers.
""",
    """
What is promised

No accepted file is lost: processing is at least once.
The order of events does not matter: any order gives the same status.
The log is the source of truth: the database can be rebuilt from it.

Thank you for reading a sample to its end.
""",
)

DOCX_TITLE = "Delivery note"
DOCX_PARAGRAPHS = (
    "This parcel contains one file and everything that was extracted from it.",
    "The text is listed under artifacts, and the counts of pages, words and lines in the "
    "statistics of the result.",
    "If you missed a stop on the way, open the history: each event is listed with its time.",
)
DOCX_TABLE = (
    ("Stop", "What happens there"),
    ("Upload", "The file is weighed, labelled and stored"),
    ("Processor", "The text is extracted from it"),
    ("Status", "The journey is recorded and published"),
)

XLSX_SHEETS = {
    "Topics": (
        ("Topic", "Carries", "Partitions"),
        ("file.uploaded", "new files", 12),
        ("file.lifecycle", "state changes and outcomes", 12),
        ("file.progress", "progress of the work", 12),
        ("file.dead", "dead letters", 3),
    ),
    "Statuses": (
        ("Status", "Final", "Meaning"),
        ("pending", "no", "waits for a worker, or for the next attempt"),
        ("processing", "no", "a worker is processing it"),
        ("completed", "yes", "the result is available"),
        ("failed", "yes", "the error says why"),
        ("cancelled", "yes", "somebody asked to cancel it"),
    ),
}

HTML = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Welcome to the depot</title></head>
<body>
<h1>Welcome to the depot</h1>
<p>Files arrive here around the clock. Each one gets a <strong>waybill</strong>, waits in the
queue and is processed as soon as a worker is free.</p>
<ul>
<li>Small parcels overtake large ones.</li>
<li>Broken parcels are set aside, with a note about what is wrong.</li>
<li>Nobody has to wait at the counter: updates are pushed to you.</li>
</ul>
</body>
</html>
"""

MARKDOWN = """# Notes of a dispatcher

A *waybill* says where a parcel comes from, where it goes and what happened on its way.

## Getting started

1. Upload a file.
2. Watch its progress: the page updates itself.
3. Open the result when the status is `completed`.

| sign        | what it means               |
|-------------|-----------------------------|
| retrying    | the road was blocked, again |
| next attempt| when the van leaves anew    |

> A parcel is never lost. It is only late.
"""

EML_BODY = """Good morning,

attached you find the timetable of this morning's deliveries.
One parcel is still on its way; its waybill says that the third attempt
starts in a minute.

Kind regards,
the night shift
"""
EML_ATTACHMENT = "time,parcel,status\n06:10,letters,completed\n06:45,pictures,processing\n"

PNG_LINES = (
    "WAYBILL",
    "From: your browser",
    "To: the blob store",
    "Contents: one picture",
    "Please handle with care",
)

GERMAN = """Der Frachtbrief

Früher lag jeder Sendung ein Frachtbrief bei. Darauf stand, woher sie kam, wohin sie sollte und
wer sie unterwegs in den Händen hatte. Wer wissen wollte, wo seine Kiste blieb, fragte am Schalter
nach und bekam eine höfliche, aber ungefähre Antwort.

Heute übernimmt das ein Strom von Ereignissen. Jede Datei trägt ihre Nummer, jeder Schritt wird
aufgeschrieben, und die Auskunft kommt von selbst, noch während gearbeitet wird.
"""
