"""How the server is set, where that costs something: one line for each, with what it costs and what to do."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from towpath_server.store.postgres import arrays
from towpath_server.store.rows import Row

# Of one scheduler.
CONNECTIONS = 6
_ASKED = (
    *("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names"),
    *("default_transaction_isolation", "idle_session_timeout"),
)
_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY ($1::text[])"
_STANDBYS = "SELECT sync_state FROM pg_stat_replication"
# How many more may connect: at all, as this user, to this database. A limit of -1 is none.
_FREE = """SELECT
current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
  - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') + 1,
(SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
(SELECT datconnlimit FROM pg_database WHERE datname = current_database())"""
_PREPARED = "SELECT count(*) FROM pg_prepared_xacts WHERE prepared < now() - interval '1 minute'"
_ISOLATION = "read committed"


def warnings(connection: psycopg.Connection[Row]) -> tuple[str, ...]:
    """What should be set otherwise, in words."""
    found = connection.execute(_SETTINGS.encode(), [arrays.texts(_ASKED)]).fetchall()
    settings: dict[str, str] = {str(name): str(value) for name, value in found}
    return (
        *_disk(settings),
        *_standbys(settings, [state for (state,) in connection.execute(_STANDBYS.encode()).fetchall()]),
        *_sessions(settings),
        *_room(*connection.execute(_FREE.encode()).fetchall()[0]),
        *_horizon(*connection.execute(_PREPARED.encode()).fetchall()[0]),
    )


def _disk(settings: dict[str, str]) -> Iterator[str]:
    for name in ("fsync", "full_page_writes"):
        if settings[name] == "off":
            yield f"{name} is off on the server: a power cut can ruin the whole store. Set it on."
    if settings["synchronous_commit"] == "off":
        yield (
            "synchronous_commit is off: a crash of the server loses what was acknowledged in its last second. Set it "
            "on, for this user at least (ALTER ROLE ... SET synchronous_commit = on)."
        )


def _standbys(settings: dict[str, str], states: list[str | None]) -> Iterator[str]:
    synchronous = bool(settings["synchronous_standby_names"].strip())
    if synchronous and settings["synchronous_commit"] == "local":
        yield (
            "synchronous_commit is local: a commit does not wait for the synchronous standbys, and a failover to one "
            "loses what was acknowledged last. Set it on."
        )
    # Whoever may not look at them sees how many there are, and no states.
    behind = [state for state in states if state == "async" or (state is None and not synchronous)]
    if behind:
        yield (
            f"{len(behind)} of {len(states)} standbys follow asynchronously: a failover to one of them loses what was "
            "acknowledged in the last moments before it, jobs and results. Name a standby in synchronous_standby_names "
            "to lose nothing."
        )


def _sessions(settings: dict[str, str]) -> Iterator[str]:
    if settings["default_transaction_isolation"] != _ISOLATION:
        yield (
            f"default_transaction_isolation is {settings['default_transaction_isolation']}: what is read outside of "
            f"transactions costs more and may be broken off. Set it to '{_ISOLATION}' for this user."
        )
    if settings["idle_session_timeout"] != "0":
        yield (
            f"idle_session_timeout is {settings['idle_session_timeout']} ms: connections that wait for news are cut, "
            "and news then come up to a second late. Set it to 0 for this user."
        )


def _room(free: int, of_user: int, of_database: int) -> Iterator[str]:
    if free < CONNECTIONS:
        yield (
            f"Only {free} more connections are free on the server, and each scheduler takes {CONNECTIONS}: some calls "
            "will fail. Raise max_connections."
        )
    for limit, what in ((of_user, "user"), (of_database, "database")):
        if 0 <= limit < CONNECTIONS:
            yield (
                f"This {what} may have {limit} connections, and each scheduler takes {CONNECTIONS}. Raise its "
                "CONNECTION LIMIT."
            )


def _horizon(prepared: int) -> Iterator[str]:
    if prepared:
        yield (
            f"{prepared} prepared transactions on the server have waited for over a minute: until they end, schedulers "
            "hear of each other's changes ahead of their time only, and watchers of none. Commit or roll them back "
            "(pg_prepared_xacts)."
        )
