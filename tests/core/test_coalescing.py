"""Much of the same is told in few words, and nothing is left out of the count."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from towpath_server.core.coalescing import Coalescing

SPAN, MOST = 10, 3


def test_the_first_is_told_at_once_and_the_others_by_their_number() -> None:
    counted = Coalescing(SPAN, MOST, "others", MOST, lambda key: key)
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


def test_whoever_makes_up_keys_leaves_room_for_others() -> None:
    counted = Coalescing(SPAN, 8, "others", 3, lambda key: key.partition("/")[0])
    assert [counted.add(f"a/{number}", 0) for number in range(9)] == ["a/0", "a/1", "a/2", "a", *[None] * 5]
    assert [counted.add(f"b/{number}", 0) for number in range(2)] == ["b/0", "b/1"]
    assert [counted.add(f"c/{number}", 0) for number in range(5)] == ["c/0", "c/1", "others", None, None]
    assert list(counted.due(SPAN)) == [("a", 5), ("others", 2)]
    # What did not come again has left its place.
    assert [counted.add(f"a/{number}", SPAN) for number in range(3)] == ["a/0", "a/1", None]
    assert dict(counted.all()) == {"a": 1}
    assert counted.add("a/2", SPAN) == "a/2"


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), max_size=200))
def test_all_are_told_and_few_at_a_time(calls: list[tuple[int, int]]) -> None:
    counted = Coalescing(SPAN, MOST, -1, 2, lambda key: -2 if key % 2 else -1)
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
    assert all(told[name] <= Counter(key for key, _ in calls)[name] for name in told if name >= 0)
    # In any span: what was told when it began, or was due in it, and what came first.
    assert all(sum(start <= moment < start + SPAN for moment in rows) <= 2 * (MOST + 1) for start in rows)
