"""Keys as PostgreSQL can look for them: digests of what may be too long for an index, and labels one by one."""

from __future__ import annotations

from hashlib import blake2b

from towpath_server.core.job import Definition
from towpath_server.store import rows
from towpath_server.store.rows import dumps

_DIGEST_BYTES = 16


def digest(text: str) -> bytes:
    """In the place of a text: no two will ever have the same."""
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()


def request(tenant: str, user: str, request_id: str) -> bytes:
    """Whose request it is, and its id."""
    return digest(dumps((tenant, user, request_id)))


def dedupe(tenant: str, user: str, key: str) -> bytes:
    """Whose dedupe key it is, and the key."""
    return digest(rows.dedupe_text(Definition(tenant=tenant, user=user, job_type="", dedupe_key=key)))


def text(labels: str | None) -> str | None:
    """Labels (JSON) as a JSON array of texts, one a label.

    Each is JSON itself, so that no escape of it is one of the array's: jsonb takes neither NUL nor half a character.
    """
    return None if labels is None else dumps([dumps(label) for label in rows.loads(labels).items()])
