"""Poison files: a plugin that executes the content of a file, to produce unstorable results.

Set `WAYBILL_PLUGINS` to this module and upload files named `*.poison` with Python code. The code
runs with `document`, `context`, `math` and the errors of plugins. `RESULTS` contains examples with
their error codes. `EVENTS` contains data that Waybill never writes, for records that are published
to Kafka directly.
"""

import math
from typing import Any

from services.processor.plugins import Context, Document, PermanentError, TransientError, step


@step(names=["*.poison"])
def poison(document: Document, context: Context) -> Document:
    """Execute the content of the file."""
    known = {
        "document": document,
        "context": context,
        "math": math,
        "PermanentError": PermanentError,
        "TransientError": TransientError,
    }
    exec(document.path.read_text(), known)  # noqa: S102 - the tests wrote it
    return document


RESULTS = {
    r"document.statistics['a\x00b'] = 1": "bad_result",
    r"document.statistics['a\udc80'] = 1": "bad_result",
    r"document.statistics['\n'] = 1": "bad_result",
    r"document.statistics['$ref'] = 1": "bad_result",
    "document.statistics['k' * 1000] = 1": "bad_result",
    "document.statistics[7] = 1": "bad_result",
    "document.statistics['n'] = 2**63": "bad_result",
    "document.statistics['n'] = -2**63 - 1": "bad_result",
    "document.statistics['n'] = 10**5000": "bad_result",
    "document.statistics['n'] = math.nan": "bad_result",
    "document.statistics['n'] = -math.inf": "bad_result",
    "document.statistics['n'] = {'deep': [1]}": "bad_result",
    "document.statistics['n'] = [1]": "bad_result",
    "document.statistics['n'] = b'x'": "bad_result",
    r"document.statistics['t'] = '\ud800'": "bad_result",
    r"document.statistics['t'] = 'a\x00'": "bad_result",
    "document.statistics = None": "bad_result",
    "document.statistics['t'] = 'x' * 3_000_000": "result_too_large",
    "document.statistics |= {str(n): n for n in range(100_000)}": "result_too_large",
    r"context.artifact('a\x00', 'text/plain', 'x')": "bad_result",
    r"context.artifact('\udc80', 'text/plain', 'x')": "bad_result",
    r"context.artifact('../a', 'text/plain', 'x')": "bad_result",
    r"context.artifact('a\n', 'text/plain', 'x')": "bad_result",
    "context.artifact(None, 'text/plain', 'x')": "bad_result",
    r"context.artifact('a', 'text/plain\r\nSet-Cookie: a=b', 'x')": "bad_result",
    r"context.artifact('a', 'text/\ud800', 'x')": "bad_result",
    "context.artifact('a', None, 'x')": "bad_result",
    r"context.artifact('a', 'text/plain', '\ud800')": "bad_result",
    "context.artifact('a', 'text/plain', 7)": "bad_result",
    r"raise PermanentError('a\udc80', 'b\udc80\x00')": "a\ufffd",
    r"raise PermanentError('my_code', '\udc80')": "my_code",
    "raise PermanentError(None, None)": "step_failed",
    r"raise TransientError('odd\x00', 'b' * 10_000)": "odd\ufffd",
    r"raise ValueError('\udc80\x00')": "step_failed",
}
"""Results of a step, and the code of the resulting failure."""

HARMLESS = (
    "context.progress(math.inf, math.nan)",
    "context.progress(None, 'x')",
    "context.progress(object(), [])",
    "context.progress(-1, -2)",
    "context.progress(5, 3)",
    "context.progress(0.25, 1.0)",
    "context.progress(2**70, 2**80)",
    "context.progress(3, 0)",
    r"context.progress(1, 2, '\udc80\x00', phase='\udc80\x00')",
    "context.progress(1, 2, object(), phase=7)",
    "document.statistics |= {'most': 2**63 - 1, 'page.count': 1, 'float': 0.5, 'none': None}",
    r"document.statistics['text'] = 'a\tb\nGrüße'",
)
"""Statements that fail no file."""

EVENTS: tuple[dict[str, Any], ...] = (
    {"a\x00b": 1},
    {"a": 2**63},
    {"a": float("nan")},
    {"$ref": "x", "$id": 1},
    {"a": {"b": {"c": 1}}},
)
"""Statistics that make a completed event unstorable."""
