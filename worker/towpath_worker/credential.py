"""The credential that a worker got for its invitation: kept in its state folder, for the scheduler that gave it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from towpath import secret_files
from towpath import settings as client
from towpath_worker import keyrings

FILE = "credential.json"
TLS = ("tls_ca", "tls_cert", "tls_key")


class CredentialUnusable(ValueError):
    """The credential that is there cannot be used. The message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A token of this worker's own. `lifetime` is how many seconds it lives after it was last rotated.

    `tls` are the files with which the scheduler was reached, by the names of the worker's settings.
    """

    server: str
    token_id: str
    secret: str = field(repr=False)
    lifetime: float | None = None
    in_keyring: bool = False
    insecure: bool = False
    tls: Mapping[str, Path] = field(default_factory=dict)

    def secret_for(self, server: str, folder: Path) -> str:
        """The secret, to be sent to that scheduler. Raises CredentialUnusable where it is another one's."""
        if set(client.addresses(server)) <= set(client.addresses(self.server)):
            return self.secret
        raise CredentialUnusable(
            f"This worker has joined {client.spoken(self.server)}, not {client.spoken(server)}, and shows its "
            f"credential to nobody else. Join there with a --state-dir of its own; if it is the same scheduler, write "
            f'its address into "server" in {path(folder)}.'
        )


def path(folder: Path) -> Path:
    """Where the credential of the worker with this state folder is kept."""
    return folder.expanduser().resolve() / FILE


def find(folder: Path) -> Credential | None:
    """The credential of the worker with this state folder, if it has one. Raises CredentialUnusable."""
    file = path(folder)
    try:
        if secret_files.others_may_read(file):
            raise CredentialUnusable(
                f"Others can read {file}, which holds this worker's credential: revoke it (`towpath tokens revoke`) "
                f"and join again, or if nobody has read it: chmod 600 {file}"
            )
        kept: Any = json.loads(file.read_text(encoding="utf-8"))
        found = Credential(
            server=client.address(kept["server"]),
            token_id=str(kept["token_id"]),
            secret="",
            lifetime=_number(kept["lifetime"]),
            in_keyring=bool(kept["in_keyring"]),
            insecure=bool(kept.get("insecure", False)),
            tls={name: Path(kept["tls"][name]) for name in TLS if name in kept.get("tls", {})},
        )
        secret = keyrings.read(str(file), found.token_id) if found.in_keyring else kept["secret"]
        return replace(found, secret=client.checked(secret, f"The secret in {file}"))
    except FileNotFoundError:
        return None
    except CredentialUnusable:
        raise
    except keyrings.KeyringUnusable as error:
        raise CredentialUnusable(f"{error} The credential of {file} is kept there.") from None
    except OSError as error:
        raise CredentialUnusable(f"Cannot read {file}: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        # What is wrong with it may repeat the secret.
        raise CredentialUnusable(f"{file} is not what this worker wrote there. Remove it and join again.") from None


@contextmanager
def keeping(folder: Path) -> Iterator[Callable[[Credential], None]]:
    """What is given is kept in place of the one of before, on the disk when that returns.

    That there is room for it is found out before there is one. Raises OSError, or KeyringUnusable.
    """
    file = path(folder)
    with secret_files.replacing(file) as put:

        def keep(credential: Credential) -> None:
            if credential.in_keyring:
                keyrings.write(str(file), credential.token_id, credential.secret)
            put(_text(credential))

        yield keep


def _text(credential: Credential) -> str:
    kept = {
        "server": credential.server,
        "token_id": credential.token_id,
        "secret": "" if credential.in_keyring else credential.secret,
        "lifetime": credential.lifetime,
        "in_keyring": credential.in_keyring,
        "insecure": credential.insecure,
        "tls": {name: str(file) for name, file in credential.tls.items()},
    }
    return json.dumps(kept, indent=2) + "\n"


def lifetime_of(begin: datetime | None, end: datetime | None) -> float | None:
    """How long a token lives that was made then and ends then; None where it does not end."""
    return None if begin is None or end is None else (end - begin).total_seconds()


def _number(given: Any) -> float | None:
    return None if given is None else float(given)
