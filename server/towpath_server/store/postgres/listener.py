"""A line on which all schedulers of one database are heard: LISTEN, on a connection of its own."""

from __future__ import annotations

from threading import Lock

import psycopg

from towpath_server.core.errors import StoreUnavailable
from towpath_server.store.postgres.address import Address
from towpath_server.store.postgres.connection import connect
from towpath_server.store.postgres.failures import translated
from towpath_server.store.postgres.writer import MANY, Writer
from towpath_server.store.rows import Row
from towpath_server.store.shared import Notice

_SETTINGS = {"statement_timeout": "10s"}


class PostgresListener:
    """For one thread that waits and any that closes it."""

    def __init__(self, address: Address, channel: str, writer: Writer) -> None:
        self._address = address
        self._channel = channel
        self._writer = writer
        self._waiting = Lock()
        self._closed = False
        with translated():
            self._postgres: psycopg.Connection[Row] | None = self._connect()

    def wait(self, timeout: float) -> Notice | None:
        """See `Listener`."""
        with self._waiting:
            try:
                return self._hear(timeout)
            except psycopg.Error as error:
                self._hang_up()
                raise StoreUnavailable from error
            finally:
                if self._closed:
                    self._hang_up()

    def close(self) -> None:
        """See `Listener`."""
        self._closed = True
        # Under the eyes of a thread that waits it would take the connection away, and perhaps give it another's.
        if self._waiting.acquire(blocking=False):
            try:
                self._hang_up()
            finally:
                self._waiting.release()

    def _hear(self, timeout: float) -> Notice | None:
        if self._closed:
            return None
        if self._postgres is None:
            self._postgres = self._connect()
            return Notice(missed=True)
        notices = {notice.payload for notice in self._postgres.notifies(timeout=timeout, stop_after=1)}
        if not notices:
            return None
        said = [notice.partition(":") for notice in notices]
        payloads = {logged for _, _, logged in said}
        logged = {int(number) for payload in payloads - {MANY, ""} for number in payload.split(",")}
        own = {writer for writer, _, _ in said} == {str(self._writer.number)}
        return Notice(frozenset(logged), missed=MANY in payloads, own=own)

    def _connect(self) -> psycopg.Connection[Row]:
        connection = connect(self._address, _SETTINGS)
        try:
            connection.execute(f"LISTEN {self._channel}".encode(), prepare=False)
        except BaseException:
            connection.close()
            raise
        return connection

    def _hang_up(self) -> None:
        if self._postgres is not None:
            self._postgres.close()
            self._postgres = None
