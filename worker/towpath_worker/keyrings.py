"""The system's keyring, where there is one: the package `keyring` is not ours, and not needed."""

from __future__ import annotations

import importlib
from typing import Any

SERVICE = "towpath-worker"
# They keep nothing, or keep it for everybody to read.
NO_KEYRINGS = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")


class KeyringUnusable(Exception):
    """The keyring does not answer. The message says so."""


def is_there() -> bool:
    """Whether there is one that keeps secrets from others."""
    try:
        backend: Any = importlib.import_module("keyring").get_keyring()
        return float(backend.priority) > 0 and not type(backend).__module__.startswith(NO_KEYRINGS)
    except Exception:  # noqa: BLE001 - it loads whatever backends are installed
        return False


def write(place: str, token_id: str, secret: str) -> None:
    """Keep the secret of that token. Raises KeyringUnusable."""
    try:
        importlib.import_module("keyring").set_password(SERVICE, f"{place} {token_id}", secret)
    except Exception as error:  # noqa: BLE001 - each backend has errors of its own
        raise KeyringUnusable(f"The system's keyring takes nothing ({type(error).__name__}).") from None


def read(place: str, token_id: str) -> str:
    """The secret of that token. Raises KeyringUnusable where it is not there."""
    try:
        found = importlib.import_module("keyring").get_password(SERVICE, f"{place} {token_id}")
    except Exception as error:  # noqa: BLE001 - each backend has errors of its own
        raise KeyringUnusable(f"The system's keyring does not answer ({type(error).__name__}).") from None
    if not isinstance(found, str):
        raise KeyringUnusable("The system's keyring does not have it.")
    return found
