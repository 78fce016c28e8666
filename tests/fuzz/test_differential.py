"""The same bytes to our server, to h11 and to nginx: what ours accepts, both read the same way."""

import json
import re
from pathlib import Path

import pytest

from tests.fuzz.heads import corpus
from tests.fuzz.understanding import (
    Understood,
    nginx_path,
    understood_by_h11,
    understood_by_nginx,
    understood_by_us,
)

SAMPLES = corpus(seed=19, count=400)

Ours = tuple[dict[int, list[Understood]], dict[int, bytes]]


@pytest.fixture(scope="module")
async def ours() -> Ours:
    """What our server has for requests, by sample, and what it answered."""
    return await understood_by_us(SAMPLES)


async def test_what_we_accept_h11_reads_the_same_way(ours: Ours) -> None:
    requests, _ = ours

    differing = []
    for sample in SAMPLES:
        theirs, mine = understood_by_h11(sample.raw), requests[sample.number]
        if mine != theirs[: len(mine)]:
            differing.append((sample.oddities, mine, theirs))
    assert not differing, "\n".join(map(str, differing))
    assert -1 not in requests  # Nobody's request has no number.


async def test_what_we_refuse_is_said_to_be_wrong_and_the_connection_ends(ours: Ours) -> None:
    requests, answers = ours

    refused = 0
    for sample in SAMPLES:
        answer = answers[sample.number]
        final = len(re.findall(rb"HTTP/1.1 [2-5]\d\d ", answer))
        refusals = answer.count(b"application/problem+json")
        assert final == len(requests.get(sample.number, [])) + refusals, (sample, answer)
        assert refusals <= 1
        if refusals:
            refused += 1
            head, _, body = answer.rpartition(b"\r\n\r\n")
            assert b"connection: close" in head, (sample, answer)
            assert json.loads(body)["detail"], sample
    assert refused > 200


async def test_ordinary_requests_are_accepted(ours: Ours) -> None:
    requests, _ = ours

    for sample in SAMPLES:
        if sample.is_ordinary:
            methods = [request.method for request in requests[sample.number]]
            assert methods == ["POST", "GET"], sample


@pytest.mark.skipif(nginx_path() is None, reason="nginx is not installed")
async def test_what_we_accept_nginx_reads_the_same_way(ours: Ours, tmp_path: Path) -> None:
    requests, _ = ours
    theirs = await understood_by_nginx(SAMPLES, tmp_path)

    differing = []
    for sample in SAMPLES:
        mine, nginx = requests.get(sample.number, []), theirs.get(sample.number, [])
        if mine != nginx[: len(mine)]:
            differing.append((sample.oddities, mine, nginx))
    assert not differing, "\n".join(map(str, differing))
