"""Filters of subscribers, and the groups that index subscribers by filter."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from services.status.projection.projection import FileState, Status
from services.status.store.access import EVERYTHING, Visibility


class Group(NamedTuple):
    """All followers of one thing: a file, a batch, an owner or reader, a label, or all files."""

    kind: str
    value: str = ""


ALL = Group("all")


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """The files that a subscriber follows. None matches everything."""

    ids: frozenset[str] | None = None
    owner: str | None = None
    batch_id: str | None = None
    label: str | None = None
    """`key:value`."""
    status: FileState | None = None
    visible_to: Visibility = EVERYTHING

    @property
    def is_open(self) -> bool:
        """True if the filter has no criterion beside the visibility."""
        return self == Filter(visible_to=self.visible_to)

    def matches(self, status: Status) -> bool:
        """Return True if the filter matches the file."""
        return (
            (self.ids is None or status.file_id in self.ids)
            and (self.owner is None or status.owner == self.owner)
            and (self.batch_id is None or status.batch_id == self.batch_id)
            and (self.status is None or status.status is self.status)
            and (self.label is None or status.has_label(self.label))
            and self.visible_to.permits(status)
        )

    def groups(self) -> list[Group]:
        """Return the groups that index the subscriber, by its most selective criterion."""
        if self.ids is not None:
            return [Group("id", file_id) for file_id in self.ids]
        if self.batch_id is not None:
            return [Group("batch", self.batch_id)]
        if (owner := self.owner or self.visible_to.owner) is not None:
            return [Group("owner", owner)]
        if self.label is not None:
            return [Group("label", self.label)]
        return [ALL]


def groups_of(status: Status) -> Iterator[Group]:
    """Yield the groups whose subscribers may follow the file."""
    yield Group("id", status.file_id)
    if status.batch_id is not None:
        yield Group("batch", status.batch_id)
    if status.owner is not None:
        yield Group("owner", status.owner)
    for share in status.shares:
        if share.reader not in (None, status.owner):
            yield Group("owner", share.reader)
    for key, value in status.labels.items():
        yield Group("label", f"{key}:{value}")
    yield ALL
