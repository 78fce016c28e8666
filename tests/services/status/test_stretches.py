"""The log is read whole, whatever is fetched and kept for later."""

import pytest

from services.status import stretches
from services.status.settings import StatusSettings
from services.status.stretches import read, whole_log
from shared.events import new_file_id
from shared.messaging import Publisher
from tests.services.status.asking import publish
from tests.support.builders import completed, processing, uploaded

FILES = 60

Place = tuple[str, int, int]


async def test_blocks_hold_each_record_once_and_say_what_is_left(
    publisher: Publisher, status_settings: StatusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(FILES):
        await publish(publisher, new_file_id(), uploaded(), processing(), completed())
    # So little that each partition is left alone, and gone on with, again and again.
    for name, records in {"BLOCK": 4, "AHEAD": 2, "RUN": 1}.items():
        monkeypatch.setattr(stretches, name, records)
    whole = await whole_log(status_settings)
    everything: set[Place] = {
        (each.topic, each.number, offset)
        for each in whole
        for offset in range(each.begin, each.end)
    }
    assert len(everything) == 3 * FILES

    taken: list[Place] = []
    left = {(each.topic, each.number): len(each) for each in whole}
    async for block in read(status_settings, whole):
        assert len(block.records) <= 4
        taken += [(each.topic, block.number, each.offset) for each in block.records]
        left |= {place: 0 for place in left if place[1] == block.number}
        left |= {(each.topic, each.number): len(each) for each in block.rest}
        assert len(taken) + sum(left.values()) == len(everything)
    assert len(taken) == len(everything)
    assert set(taken) == everything
