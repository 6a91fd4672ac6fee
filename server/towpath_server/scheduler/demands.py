"""Lanes with work, by what they ask of a worker: a poll finds those that it serves without a look at all the others."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from towpath_server.core.fairness import Entry
from towpath_server.core.job import Requirements
from towpath_server.core.matching import Profile, serves
from towpath_server.core.quotas import Owner, owners
from towpath_server.core.records import Lane

DemandKey = tuple[str, str, str, Requirements]
# Something that a lane asks for, and under which workers that have it look: (tenant, user, what, which). Those that are
# shared look under the anchors without a user, where the lanes of all users stand.
Anchor = tuple[str, str | None, str, object]


@dataclass(slots=True, eq=False)
class Demand:
    """What lanes ask that are alike for all workers; `lane` stands for them. `entries` are those with work, sorted.

    `anchors` are that of its user and that of all users.
    """

    lane: Lane
    anchors: tuple[Anchor, Anchor]
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Kind:
    """Workers that are alike: where they look, and which demands they are known to fit, their worker_id aside."""

    anchors: dict[Anchor, None]
    fits: dict[Demand, bool] = field(default_factory=dict)


class Demands:
    """All demands, and what the workers of each profile can do about them."""

    def __init__(self) -> None:
        self._by_key: dict[DemandKey, Demand] = {}
        self._with_work: dict[Anchor, dict[Demand, None]] = {}
        self._kinds: dict[Profile, _Kind] = {}
        # Whose lanes are handed out to nobody: of users, and of tenants as wholes.
        self.held: set[Owner] = set()

    def of(self, lane: Lane) -> Demand:
        """What the lane asks."""
        key = (lane.tenant, lane.user, lane.job_type, lane.requirements)
        demand = self._by_key.get(key)
        if demand is None:
            what, which = _narrowest(lane)
            anchors = ((lane.tenant, lane.user, what, which), (lane.tenant, None, what, which))
            demand = self._by_key[key] = Demand(lane, anchors)
        return demand

    def add(self, demand: Demand, entry: Entry) -> None:
        """A lane has work."""
        if not demand.entries:
            for anchor in demand.anchors:
                self._with_work.setdefault(anchor, {})[demand] = None
        insort(demand.entries, entry)

    def remove(self, demand: Demand, entry: Entry) -> None:
        """It has not, or stands elsewhere."""
        del demand.entries[bisect_left(demand.entries, entry)]
        if demand.entries:
            return
        for anchor in demand.anchors:
            others = self._with_work[anchor]
            del others[demand]
            if not others:
                del self._with_work[anchor]

    def served(self, profile: Profile, worker_id: int) -> Iterator[Demand]:
        """The demands with work that a worker serves."""
        kind = self._kind(profile)
        pinned: Anchor = (profile.tenant, profile.serves_user, "worker", worker_id)
        for anchor in (pinned, *_in_both(self._with_work, kind.anchors)):
            for demand in self._with_work.get(anchor, ()):
                if self.held and self.is_held(demand.lane):
                    continue
                if self._fits(kind, demand, profile, worker_id):
                    yield demand

    def is_held(self, lane: Lane) -> bool:
        """Whether its user, or its tenant, is held back."""
        return not self.held.isdisjoint(owners(lane.tenant, lane.user))

    def of_owner(self, owner: Owner) -> list[Demand]:
        """The demands with work of a user, or of a tenant as a whole."""
        who = (owner[0], owner[1] or None)
        return [demand for anchor, demands in self._with_work.items() if anchor[:2] == who for demand in demands]

    def ranked(self, profile: Profile, worker_id: int) -> list[Entry]:
        """The lanes with work that a worker serves, as a heap of its own."""
        lists = [demand.entries for demand in self.served(profile, worker_id)]
        if len(lists) == 1:
            return lists[0].copy()
        entries = [entry for each in lists for entry in each]
        heapq.heapify(entries)
        return entries

    def fits(self, demand: Demand, profile: Profile, worker_id: int) -> bool:
        """`matching.serves`, remembered by profile."""
        return self._fits(self._kind(profile), demand, profile, worker_id)

    def forget(self, profile: Profile) -> None:
        """No worker looks like this any more."""
        self._kinds.pop(profile, None)

    def _kind(self, profile: Profile) -> _Kind:
        kind = self._kinds.get(profile)
        if kind is None:
            kind = self._kinds[profile] = _Kind(dict.fromkeys(_looks(profile)))
        return kind

    def _fits(self, kind: _Kind, demand: Demand, profile: Profile, worker_id: int) -> bool:
        if demand.lane.requirements.worker_id is not None:
            return serves(demand.lane, profile, worker_id)
        fits = kind.fits.get(demand)
        if fits is None:
            fits = kind.fits[demand] = serves(demand.lane, profile, worker_id)
        return fits


def _in_both(with_work: Mapping[Anchor, object], anchors: Mapping[Anchor, object]) -> list[Anchor]:
    if len(with_work) < len(anchors):
        return [anchor for anchor in with_work if anchor in anchors]
    return [anchor for anchor in anchors if anchor in with_work]


def _narrowest(lane: Lane) -> tuple[str, object]:
    """The narrowest of what the lane asks for: each worker that serves it has that."""
    needs = lane.requirements
    if needs.worker_id is not None:
        return "worker", needs.worker_id
    if needs.model_id is not None:
        return "model", needs.model_id
    if needs.worker_labels:
        return "label", needs.worker_labels[0]
    return "type", lane.job_type


def _looks(profile: Profile) -> Iterator[Anchor]:
    """The anchors of what such a worker has."""
    who = (profile.tenant, profile.serves_user)
    yield from ((*who, "type", job_type) for job_type in sorted(profile.job_types))
    yield from ((*who, "label", label) for label in sorted(profile.labels))
    yield from ((*who, "model", model_id) for model_id in sorted(profile.models))
