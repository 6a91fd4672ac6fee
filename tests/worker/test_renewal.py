"""A worker renews its credential long before it ends, and loses it at no point where it may be killed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.joined import client, invited, joining, works
from support.rpc_stage import Stage, stage
from support.stage import Hands
from towpath.bearer import Secret
from towpath_server.core.job import DAY
from towpath_server.scheduler import Clock
from towpath_worker import credential
from towpath_worker.renewal import Renewal


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture(name="at")
async def _at(hands: Hands) -> AsyncIterator[Stage]:
    async with stage(clock=Clock(lambda: hands.now, lambda: hands.steady)) as one:
        yield one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    return made


class Worker:
    """What a running worker has of its credential."""

    def __init__(self, at: Stage, folder: Path) -> None:
        kept = credential.find(folder)
        assert kept is not None
        self.sent = Secret(kept.secret)
        self.renewal = Renewal(folder, kept, self.sent, lambda secret: client(at, secret))


async def test_a_credential_is_renewed_when_a_third_of_its_life_is_over(at: Stage, folder: Path, hands: Hands) -> None:
    await joining(at, folder, await invited(at, folder))
    worker = Worker(at, folder)
    first = worker.sent.token
    hands.now += 29 * DAY
    assert not await worker.renewal.renew()
    hands.now += 2 * DAY
    assert await worker.renewal.renew()
    kept = credential.find(folder)
    assert kept is not None
    assert kept.secret == worker.sent.token != first
    assert credential.path(folder).stat().st_mode & 0o777 == 0o600
    assert [await works(at, secret) for secret in (first, kept.secret)] == [True, True]
    assert not await worker.renewal.renew()
    hands.now += 89 * DAY
    assert [await works(at, secret) for secret in (first, kept.secret)] == [False, True]


async def test_a_worker_that_was_killed_while_it_renewed_does_it_again(at: Stage, folder: Path, hands: Hands) -> None:
    await joining(at, folder, await invited(at, folder))
    hands.now += 31 * DAY
    before = Worker(at, folder)
    async with client(at, before.sent.token) as killed:
        await killed.rotate_token()
    # It starts again with what is on the disk: by its end alone the token looks as good as new.
    worker = Worker(at, folder)
    assert worker.sent.token == before.sent.token
    assert await worker.renewal.renew()
    hands.now += 2 * DAY
    assert [await works(at, one.sent.token) for one in (before, worker)] == [False, True]


async def test_what_is_sent_is_on_the_disk_before(at: Stage, folder: Path, hands: Hands) -> None:
    await joining(at, folder, await invited(at, folder))
    hands.now += 31 * DAY
    worker = Worker(at, folder)
    first, file = worker.sent.token, folder / "credential.json"
    text = file.read_text()
    file.unlink()
    (file / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        await worker.renewal.renew()
    assert worker.sent.token == first
    (file / "in the way").rmdir()
    file.rmdir()
    file.write_text(text)
    assert await worker.renewal.renew()
    assert json.loads(file.read_text())["secret"] == worker.sent.token
    assert await works(at, worker.sent.token)


async def test_an_open_channel_sends_the_new_secret(at: Stage) -> None:
    async with client(at) as admin:
        _, old = await admin.create_token("x", "viewer")
    async with client(at, old) as viewer:
        token, fresh = await viewer.rotate_token(overlap=0)
        assert (await viewer.whoami()).token_id == token.token_id
    assert [await works(at, secret) for secret in (old, fresh)] == [False, True]
