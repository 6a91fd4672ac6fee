"""A running worker rotates its own credential long before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from towpath import AsyncClient
from towpath.bearer import Secret
from towpath.errors import TowpathError
from towpath.fleet import Token
from towpath_worker import credential
from towpath_worker.credential import Credential
from towpath_worker.keyrings import KeyringUnusable
from towpath_worker.log import logger

log = logger("towpath.worker")

# How much of its lifetime is left when it is rotated. How often that is looked at: seconds, or so often in a lifetime.
LEFT = 2 / 3
DAY = 86_400.0
LOOKS = 12
# How soon to try again (seconds): before the secret of before ends, an hour after a rotation that came to nothing.
AGAIN = 300.0


class Renewal:
    """Looks at the credential now and once a day. `secret` is what the worker's channels send."""

    def __init__(
        self, folder: Path, kept: Credential, secret: Secret, connect: Callable[[str], AsyncClient], *, pause: float = 0
    ) -> None:
        self._folder = folder
        self._kept = kept
        self._secret = secret
        self._connect = connect
        self._pause = pause
        # It may have been rotated without this worker hearing of it, which may have been killed at that.
        self._certain = False

    async def run(self) -> None:
        """Until it is cancelled."""
        while self._kept.lifetime is not None:
            usual = min(DAY, self._kept.lifetime / LOOKS)
            try:
                await self.renew()
            except (TowpathError, OSError, KeyringUnusable) as error:
                log.warning("credential not renewed: trying again", reason=str(error))
                usual = min(usual, AGAIN)
            await asyncio.sleep(self._pause or usual)

    async def renew(self) -> bool:
        """Rotates it if it is time; whether it was."""
        async with self._connect(self._kept.secret) as client:
            token, now = await client.whoami(), (await client.server_info()).server_time or datetime.now(UTC)
            lost = not self._certain and token.previous_expire_time is not None and token.previous_expire_time > now
            self._certain = not (lost or is_due(token, now, self._kept.lifetime))
            if self._certain:
                return False
            with credential.keeping(self._folder) as keep:
                token, secret = await client.rotate_token()
                fresh = replace(self._kept, secret=secret)
                keep(fresh)
        self._kept, self._secret.token, self._certain = fresh, secret, True
        log.info("credential renewed", token=token.token_id, until=str(token.expire_time))
        return True


def is_due(token: Token, now: datetime, lifetime: float | None) -> bool:
    """Whether a token is to be rotated, by the scheduler's clock: this machine's may be wrong."""
    if token.expire_time is None or lifetime is None:
        return False
    return (token.expire_time - now).total_seconds() < LEFT * lifetime
