"""SQL for `Matching`: which jobs fit a filter, and how many.

There are two ways through the store. By lane: each lane's jobs of a state lie together in order of their ids, so a few
come from each, however many there are. By tenant: jobs in order of their ids, one by one, until enough fit.
"""

# Only names from this package go into the text of a statement; values are bound.
# ruff: noqa: S608
from __future__ import annotations

from towpath_server.core.job import JobState
from towpath_server.store.base import Matching
from towpath_server.store.postgres import tags
from towpath_server.store.postgres.values import Values
from towpath_server.store.rows import dumps

# Of these there are few at any time, so all of them can be looked at.
_FEW = frozenset({JobState.LEASED, JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING})
# Nothing will come any more at or before it. Never beyond what is stored: after a crash of the server it gives the ids
# of those transactions out again that left nothing on its disk.
HORIZON = """(SELECT least(base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 20) - 1, greatest(
base, (SELECT max(sequence) FROM jobs) | 1048575, (SELECT max(sequence) FROM record_changes) | 1048575)) FROM origin)"""


class Filter:
    """The parts of the statements for one `Matching`; each is asked for once, and `values` are what they name."""

    def __init__(self, matching: Matching, *, settled: bool) -> None:
        self.values = Values()
        self._matching = matching
        self._settled = settled
        self._places: dict[str, str] = {}

    def pick(self, limit: int) -> str:
        """A query for the ids of the jobs that fit, in order."""
        matching, most = self._matching, self.values.number(limit)
        if matching.changed_after is not None:
            return self._by_sequence(most)
        if matching.dispatch_order:
            return self._in_dispatch_order(most)
        few = bool(matching.states) and _FEW.issuperset(matching.states)
        named = bool(matching.states) or self._names_lanes()
        if few or (named and not self._beyond_lanes()):
            return self._by_lane(most)
        return self._by_tenant(most)

    def still(self) -> str:
        """What of the filter may have changed since a job was picked, on `jobs j`."""
        return f"{self._state_is_wanted()} AND {self._extras(definitions=False)}"

    def tally(self) -> str:
        """A query for rows of queue, state, how many jobs fit, and the smallest queue_time of those QUEUED."""
        if not self._beyond_lanes():
            return self._tally_by_lane()
        definitions = "JOIN definitions d ON d.job_id = j.job_id" if self._asks_definitions() else ""
        return f"""SELECT l.queue, j.state, count(*), min(j.queue_time) FILTER (WHERE j.state = 3)
        FROM {self._lanes()} JOIN jobs j ON j.lane_id = l.lane_id {definitions}
        WHERE {self._state_is_wanted()} AND {self._extras()} GROUP BY 1, 2"""

    def _tally_by_lane(self) -> str:
        # Each range of an index is counted as it lies, and no job is read: with ten millions of them a quarter of the
        # time, and a state of which there are few costs nothing.
        return f"""SELECT l.queue, s.state, sum(c.jobs)::bigint, min(CASE s.state WHEN 3 THEN (
          SELECT min(q.queue_time) FROM jobs q WHERE q.lane_id = l.lane_id AND q.state = 3) END)
        FROM {self._lanes()} CROSS JOIN unnest({self._states()}) s (state) CROSS JOIN LATERAL (
          SELECT count(*) AS jobs FROM jobs j WHERE j.lane_id = l.lane_id AND j.state = s.state) c
        WHERE c.jobs > 0 GROUP BY 1, 2"""

    def _by_lane(self, most: str) -> str:
        order = self._order()
        return f"""SELECT q.job_id FROM {self._lanes()} CROSS JOIN unnest({self._states()}) s (state)
        CROSS JOIN LATERAL (
          SELECT j.job_id FROM jobs j {self._definitions()}
          WHERE j.lane_id = l.lane_id AND j.state = s.state AND {self._after("j")} AND {self._extras()}
          ORDER BY j.job_id {order} LIMIT {most}) q
        ORDER BY q.job_id {order} LIMIT {most}"""

    def _by_tenant(self, most: str) -> str:
        return f"""SELECT d.job_id FROM definitions d JOIN jobs j ON j.job_id = d.job_id
        WHERE {self._same("d")} AND {self._after("d")} AND {self._state_is_wanted()} AND {self._extras()}
        ORDER BY d.job_id {self._order()} LIMIT {most}"""

    def _by_sequence(self, most: str) -> str:
        after = self._place("changed_after", self._matching.changed_after or 0)
        settled = f"AND j.sequence <= {HORIZON}" if self._settled else ""
        return f"""SELECT j.job_id FROM jobs j JOIN definitions d ON d.job_id = j.job_id
        WHERE j.sequence > {after} {settled} AND {self._same("d")} AND {self._state_is_wanted()} AND {self._extras()}
        ORDER BY j.sequence LIMIT {most}"""

    def _in_dispatch_order(self, most: str) -> str:
        skip = self._place("skip", self._matching.after or 0)
        order = "ORDER BY priority DESC, position LIMIT"
        if self._matching.states == (JobState.QUEUED,) and not self._beyond_lanes():
            return f"""SELECT q.job_id FROM {self._lanes()} CROSS JOIN LATERAL (
              SELECT j.job_id, j.priority, j.position FROM jobs j WHERE j.lane_id = l.lane_id AND j.state = 3
              {order} {most} + {skip}) q
            {order} {most} OFFSET {skip}"""
        return f"""SELECT j.job_id FROM {self._lanes()} JOIN jobs j ON j.lane_id = l.lane_id {self._definitions()}
        WHERE {self._state_is_wanted()} AND {self._extras()} {order} {most} OFFSET {skip}"""

    def _order(self) -> str:
        return "" if self._matching.ascending else "DESC"

    def _states(self) -> str:
        wanted = dict.fromkeys(self._matching.states or JobState)
        if "states" not in self._places:
            self._places["states"] = self.values.numbers(map(int, wanted), "smallint")
        return self._places["states"]

    def _state_is_wanted(self) -> str:
        return f"j.state = ANY ({self._states()})" if self._matching.states else "true"

    def _lanes(self) -> str:
        return f"(SELECT lane_id, queue FROM lanes n WHERE {self._same('n')}) l"

    def _definitions(self) -> str:
        return "JOIN definitions d ON d.job_id = j.job_id" if self._asks_definitions() else ""

    def _same(self, table: str) -> str:
        conditions = []
        for name in ("tenant", "user", "queue", "job_type"):
            value = getattr(self._matching, name)
            if value is not None:
                conditions.append(f'{table}."{name}" = {self._place(name, value)}')
        return " AND ".join(conditions)

    def _after(self, table: str) -> str:
        if self._matching.after is None:
            return "true"
        return f"{table}.job_id {'>' if self._matching.ascending else '<'} {self._place('after', self._matching.after)}"

    def _names_lanes(self) -> bool:
        matching = self._matching
        return any(value is not None for value in (matching.user, matching.queue, matching.job_type))

    def _asks_definitions(self) -> bool:
        return self._matching.workspace is not None or bool(self._matching.labels)

    def _beyond_lanes(self) -> bool:
        matching = self._matching
        return self._asks_definitions() or matching.worker_id is not None or matching.ended_before is not None

    def _extras(self, *, definitions: bool = True) -> str:
        matching = self._matching
        conditions = ["true"]
        if matching.worker_id is not None:
            conditions.append(f"j.worker_id = {self._place('worker_id', matching.worker_id)}")
        if matching.ended_before is not None:
            conditions.append(f"j.end_time <= {self._place('ended_before', matching.ended_before)}")
        if definitions and matching.workspace is not None:
            conditions.append(f"d.workspace = {self._place('workspace', matching.workspace)}")
        if definitions and matching.labels:
            if "labels" not in self._places:
                self._places["labels"] = self.values.add(tags.text(dumps(dict(matching.labels))), "jsonb")
            conditions.append(f"d.tags @> {self._places['labels']}")
        return " AND ".join(conditions)

    def _place(self, name: str, value: int | str) -> str:
        if name not in self._places:
            number = isinstance(value, int)
            self._places[name] = self.values.add(str(value), "bigint" if number else "text")
        return self._places[name]
