"""Who is over a quota of calls is told so, and told no faster for asking more often."""

from __future__ import annotations

import asyncio

import pytest

from towpath_server.core.errors import RateExceeded
from towpath_server.rpc.metering import LONGEST, PACE, PROMPT, Metered


class Full:
    is_on = True

    def __init__(self) -> None:
        self.asked = 0

    def call(self, tenant: str, user: str) -> None:
        self.asked += 1
        if tenant == "flood":
            raise RateExceeded(who="Tenant flood", limit=1, seconds="1.0")


def test_refusals_come_at_once_then_at_a_pace_and_none_later_than_the_longest() -> None:
    now = 50.0
    metered = Metered(Full(), lambda: now)
    assert [metered.wait("flood") for _ in range(PROMPT)] == pytest.approx([0.0] * PROMPT)
    assert [metered.wait("flood") for _ in range(3)] == pytest.approx([PACE, 2 * PACE, 3 * PACE])
    # Another tenant's are another matter.
    assert metered.wait("other") == 0.0
    for _ in range(10 * int(LONGEST / PACE)):
        longest = metered.wait("flood")
    assert longest == pytest.approx(LONGEST)
    # Nothing of a flood is left a while after its end.
    now += LONGEST + PROMPT * PACE
    assert metered.wait("flood") == 0.0


async def test_a_call_within_its_quota_never_waits() -> None:
    full = Full()
    metered = Metered(full, lambda: 50.0)
    for _ in range(PROMPT + 1):
        metered.wait("quiet")
    call = metered.call("quiet", "ada")
    with pytest.raises(StopIteration):
        call.send(None)
    assert full.asked == 1


async def test_a_refused_call_beyond_the_first_waits_for_its_refusal_and_may_be_given_up() -> None:
    metered = Metered(Full(), lambda: 50.0)
    for _ in range(PROMPT):
        with pytest.raises(RateExceeded):
            await metered.call("flood", "eve")
    waits = asyncio.ensure_future(metered.call("flood", "eve"))
    gives_up = asyncio.ensure_future(metered.call("flood", "eve"))
    await asyncio.sleep(0)
    assert not waits.done()
    gives_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gives_up
    with pytest.raises(RateExceeded):
        await waits
