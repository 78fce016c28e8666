"""What the sample documents say: each tells a part of how Waybill works."""

PDF_PAGES = (
    """
How a file travels

Waybill takes in files, works on them in the background,
and tells everyone who asks how far each one has come.

A file that is handed over gets a waybill: an identifier of its own.
With it you can follow the file at every stop, live,
or come back next week and read where it has been.

The answer to an upload is quick, because nothing is worked on yet.
It says one thing only: the file is stored safely, and so is
the message that it waits to be processed.
""",
    """
The three services

The upload service stores the file in the blob store, tells its type
from its first bytes, and publishes the event "file uploaded" to Kafka.

The processor takes the event and does the work in a process apart:
a file that crashes, hangs or eats memory harms nobody but itself.
A failed attempt is repeated when that can help, after a growing pause.

The status service folds all events into one document for each file,
keeps it in MongoDB, and pushes every change to whoever listens.
""",
    """
What is promised

Nothing that was accepted is lost: work is done at least once.
The order of events does not matter: any order ends in the same status.
The history is the truth: the database can be rebuilt from it.

Thank you for reading a sample to its end.
""",
)

DOCX_TITLE = "Delivery note"
DOCX_PARAGRAPHS = (
    "This parcel holds one file and everything that was learned from it.",
    "The receiver finds the text under artifacts, and the counts of pages, words and lines in "
    "the statistics of the result.",
    "If a stop on the way was missed, open the history: each event is listed with its time.",
)
DOCX_TABLE = (
    ("Stop", "What happens there"),
    ("Upload", "The file is weighed, labelled and stored"),
    ("Processor", "The text is read out of it"),
    ("Status", "The journey is written down and told"),
)

XLSX_SHEETS = {
    "Topics": (
        ("Topic", "Carries", "Partitions"),
        ("file.uploaded", "new files", 12),
        ("file.lifecycle", "what became of them", 12),
        ("file.progress", "how far the work has come", 12),
        ("file.dead", "what could not be delivered", 3),
    ),
    "Statuses": (
        ("Status", "Final", "Meaning"),
        ("pending", "no", "waits for a worker, or for the next attempt"),
        ("processing", "no", "a worker has it"),
        ("completed", "yes", "the result is there"),
        ("failed", "yes", "the error says why"),
        ("cancelled", "yes", "somebody asked to stop"),
    ),
}

HTML = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Welcome to the depot</title></head>
<body>
<h1>Welcome to the depot</h1>
<p>Files arrive here around the clock. Each is given a <strong>waybill</strong>, waits its turn
and moves on as soon as a worker is free.</p>
<ul>
<li>Small parcels overtake large ones.</li>
<li>Broken parcels are set aside, with a note about what is wrong.</li>
<li>Nobody has to wait at the counter: the news is brought to you.</li>
</ul>
</body>
</html>
"""

MARKDOWN = """# Notes of a dispatcher

A *waybill* says where a parcel comes from, where it goes and what happened on its way.

## What to look at first

1. Hand over a file.
2. Watch its progress: the page moves by itself.
3. Open the result when the status says `completed`.

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
