"""Those who wait for jobs and watch them, through as many breaks as there are."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.simulation.book import Wait, Watching
from support.simulation.network import Lost
from support.simulation.server import Contact
from towpath_server.core.errors import TowpathError
from towpath_server.core.job import SECOND
from towpath_server.core.records import Principal
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.follow import FROM_THE_BEGINNING
from towpath_server.scheduler.messages import JobFilter

if TYPE_CHECKING:
    from support.simulation.world import World


@dataclass(slots=True)
class Sequel:
    """How far a watch has come that goes on after a break."""

    sequence: int
    # It knows of all changes after this one.
    since: int | None = None
    told: dict[int, int] = field(default_factory=dict)


class Follower:
    """One call that follows a job, or all jobs of its user."""

    def __init__(self, world: World, name: str, principal: Principal) -> None:
        self._world = world
        self._contact = Contact(world)
        self._name = name
        self._principal = principal
        self._known: dict[int, int] = {}

    async def follow(self, job_id: int | None) -> None:
        """Wait, or watch, for a while."""
        rng = self._world.rng
        patience = rng.uniform(2.0, 30.0)
        with suppress(Lost, TowpathError):
            if job_id is None:
                await self._follow_all()
            elif rng.random() < 0.5:
                await self._contact.call(lambda s: self._wait(s, job_id), patience=patience)
            else:
                await self._contact.call(lambda s: self._watch(s, job_id), patience=patience)

    async def _follow_all(self) -> None:
        """Watch all jobs; where the watch breaks, go on from the last sequence seen."""
        rng = self._world.rng
        sequel = Sequel(rng.choice((0, 0, 1)))
        for _ in range(rng.randint(1, 4)):
            with suppress(Lost, TowpathError):
                patience = rng.uniform(1.0, 15.0)
                await self._contact.call(lambda s: self._watch_all(s, sequel), patience=patience)
            await asyncio.sleep(rng.uniform(0.1, 2.0))
            before = self._contact.server
            self._contact.go_elsewhere()
            self._world.book.seen["resumed elsewhere"] += self._contact.server is not before

    async def _wait(self, scheduler: Scheduler, job_id: int) -> None:
        revision: int | None = None
        while True:
            wait = Wait(job_id, revision)
            longest = self._world.rng.randint(1, 6) * SECOND
            begun = self._world.loop.microseconds
            waits = self._world.book.memories[scheduler].waits
            waits[wait] = None
            try:
                job = await scheduler.jobs.wait(self._principal, job_id, revision, longest)
            finally:
                waits.pop(wait, None)
            self._world.auditor.waited(wait, job, late=self._world.loop.microseconds - begun >= longest)
            if job.state.is_final:
                return
            revision = job.revision if self._world.rng.random() < 0.7 else None

    async def _watch(self, scheduler: Scheduler, job_id: int) -> None:
        watches = self._world.book.memories[scheduler].watches
        watching = Watching(job_id, self._principal.tenant, self._principal.user)
        try:
            async with aclosing(scheduler.jobs.watch(self._principal, job_id, 0)) as jobs:
                async for job in jobs:
                    self._tell(watching, job.job_id, job.revision)
                    self._world.auditor.told(job)
                    watches[watching] = None
                    watching.stands = True
        finally:
            watches.pop(watching, None)

    async def _watch_all(self, scheduler: Scheduler, sequel: Sequel) -> None:
        # An earlier call may still be under way: nobody reads any more what it is told.
        told = sequel.told = dict(sequel.told)
        sequence = sequel.sequence
        watches = self._world.book.memories[scheduler].watches
        watching = Watching(None, self._principal.tenant, self._principal.user, told=told)
        try:
            asked = scheduler.jobs.watch_all(self._principal, JobFilter(), sequence)
            async with aclosing(asked) as changes:
                async for news in changes:
                    if not watching.stands:
                        if sequel.since is None:
                            sequel.since = sequence or news.sequence
                        watching.since = sequel.since
                        watching.stands = True
                        watches[watching] = None
                    if news.sequence < sequence:
                        # No sequence of this store's: a scheduler died that had not written anything. All over again.
                        if news.sequence != FROM_THE_BEGINNING or self._world.ground.is_shared:
                            what = f"sequence {news.sequence} after {sequence}"
                            self._world.auditor.found(what_is_watched_goes_forward, what)
                        told.clear()
                        sequel.since = watching.since = sequence = 0
                    for job in news.jobs:
                        if not sequence < job.sequence <= news.sequence:
                            what = f"change {job.sequence} of job {job.job_id} between {sequence} and {news.sequence}"
                            self._world.auditor.found(all_who_watch_see_one_order, what)
                        self._tell(watching, job.job_id, job.revision)
                        self._world.auditor.outlined(job)
                    sequence = news.sequence
                    if sequel.told is told:
                        sequel.sequence = sequence
        finally:
            watches.pop(watching, None)

    def _tell(self, watching: Watching, job_id: int, revision: int) -> None:
        if revision <= watching.told.get(job_id, 0):
            self._world.auditor.found(what_is_watched_goes_forward, f"job {job_id}: revision {revision} came late")
        watching.told[job_id] = revision


def what_is_watched_goes_forward() -> None:
    """A watch tells a job's revisions in their order, each once."""


def all_who_watch_see_one_order() -> None:
    """A watch tells changes in the order of their sequences, wherever it was begun and goes on."""
