"""Call an HTTP endpoint as a step."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from services.processor.steps.document import Context, Document, Step
from shared.events.storable import sendable_media_type
from shared.workerrors import PermanentError, TransientError

MAX_RESPONSE = 64 << 20
"""Bytes of a response that are kept; they are read into memory at once."""

RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes after which a retry may succeed (RFC 9110, 8470, 6585)."""

_NETWORK = "needs_network"


def http_step(
    url: str,
    *,
    artifact: str | None = None,
    as_text: bool = False,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Step:
    """Create a step that posts the file to `url`. Its pipeline needs `network=True`.

    Args:
        artifact: name of the artifact that stores the response, with the response's type.
        as_text: use the response as the text of the document.
        timeout: seconds for each phase of the exchange.
    """
    host = urlsplit(url).hostname or url

    def post(document: Document, context: Context) -> Document:
        import httpx

        sent = {"content-type": document.content_type, "content-length": str(document.size)}
        sent |= headers or {}
        answer = bytearray()
        try:
            with (
                document.path.open("rb") as content,
                httpx.stream(
                    "POST",
                    url,
                    content=content,
                    headers=sent | dict(headers or {}),
                    timeout=timeout,
                ) as response,
            ):
                _check(host, response.status_code)
                for piece in response.iter_bytes():
                    answer += piece
                    if len(answer) > MAX_RESPONSE:
                        message = f"{host} returned more than {MAX_RESPONSE >> 20} MiB."
                        raise PermanentError("result_too_large", message)
        except httpx.TransportError as error:
            message = f"{host} does not answer: {type(error).__name__}."
            raise TransientError("http_unavailable", message) from error
        if artifact is not None:
            kind = sendable_media_type(response.headers.get("content-type"))
            context.artifact(artifact, kind, bytes(answer))
        if as_text:
            document.text = _decoded(bytes(answer), response.encoding)
        return document

    post.__name__ = host
    setattr(post, _NETWORK, True)
    return post


def needs_network(step: Step) -> bool:
    """Return True if a step requires the network."""
    return getattr(step, _NETWORK, False) is True


def _decoded(answer: bytes, encoding: str | None) -> str:
    try:
        text = answer.decode(encoding or "utf-8", errors="replace")
    except LookupError:  # Python also has codecs that do not decode text, such as `hex`.
        text = answer.decode(errors="replace")
    # Some codecs, such as UTF-7, produce lone surrogates.
    return text.encode(errors="replace").decode()


def _check(host: str, status: int) -> None:
    if status in RETRYABLE_STATUSES:
        raise TransientError("http_unavailable", f"{host} returned status {status}.")
    if not 200 <= status < 300:
        raise PermanentError("http_refused", f"{host} returned status {status}.")
