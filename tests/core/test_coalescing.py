"""Much of the same is told in few words, and nothing is left out of the count."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from towpath_server.core.coalescing import Coalescing

SPAN, MOST = 10, 3


def test_the_first_is_told_at_once_and_the_others_by_their_number() -> None:
    counted = Coalescing(SPAN, MOST, "others")
    assert counted.add("a", 0) == "a"
    assert [counted.add("a", moment) for moment in (1, 5, 9)] == [None, None, None]
    assert list(counted.due(9)) == []
    assert counted.next_due() == 10
    assert list(counted.due(10)) == [("a", 3)]
    # It came again: from now on it is counted, until it has not come for a whole span.
    assert counted.add("a", 11) is None
    assert list(counted.due(20)) == [("a", 1)]
    assert list(counted.due(30)) == []
    assert "a" not in counted
    assert counted.next_due() is None
    assert counted.add("a", 31) == "a"


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), max_size=200))
def test_all_are_told_and_few_at_a_time(calls: list[tuple[int, int]]) -> None:
    counted = Coalescing(SPAN, MOST, -1)
    told: Counter[int] = Counter()
    rows: list[int] = []
    now = 0
    for key, later in calls:
        now += later
        for name, count in counted.due(now):
            told[name] += count
            rows.append(now)
        name_now = counted.add(key, now)
        if name_now is not None:
            told[name_now] += 1
            rows.append(now)
    for name, count in counted.all():
        told[name] += count
    assert told.total() == len(calls)
    assert all(told[name] <= Counter(key for key, _ in calls)[name] for name in told if name != -1)
    # In any span: what was told when it began, or was due in it, and what came first.
    assert all(sum(start <= moment < start + SPAN for moment in rows) <= 2 * (MOST + 1) for start in rows)
