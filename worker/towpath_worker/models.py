"""The models on this machine: a folder each, `<models>/<tenant>/<user>/<name>/<version>/`.

`staging` writes them: a folder is there whole or not at all. `towpath.json` says what lies in it. Each file is read
once, through no link, and what was read is compared with its SHA-256 before anything parses it. No other file is
opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from google.protobuf import json_format

from towpath.v1 import model_pb2
from towpath_worker import beneath
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders
from towpath_worker.tabular.checks import one_of

MANIFEST = "towpath.json"
FORMAT = 1
#: The files that a model can have. None of these formats holds code.
OWN_FILES = frozenset({"model.ubj", "model.skops", "encoder.json", "MLmodel"})
MAX_MANIFEST_BYTES = 64 << 20
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(r"mdl_[0-7][0-9a-hjkmnp-tv-z]{12}")
#: What a manifest that is none may raise.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_VERSION = re.compile(r"[0-9]{1,18}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


@dataclass(frozen=True)
class StoredModel:
    """A model and its files, read and checked."""

    model: model_pb2.Model
    files: Mapping[str, bytes]
    #: All of `towpath.json`.
    manifest: Mapping[str, Any]


def new_model_id() -> str:
    """`mdl_` and 13 Crockford base32 characters: 42 bits of milliseconds, 21 random bits."""
    number = ((time.time_ns() // 1_000_000) & ((1 << 42) - 1)) << 21 | secrets.randbits(21)
    return "mdl_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(60, -1, -5))


def load(folders: Folders, reference: str, tenant: str, user: str) -> StoredModel:
    """The model of an id, `name` (its newest version) or `name@version`; every file is checked against its SHA-256.

    Raises InvalidInput that says what there is.
    """
    return _load(folders.models, _find(folders, reference, tenant, user), reference)


def load_folder(folder: Path, reference: str) -> StoredModel:
    """The model in a folder, its files checked; `reference` is what a person calls it. Raises InvalidInput."""
    return _load(folder, folder, reference)


def _load(root: Path, folder: Path, reference: str) -> StoredModel:
    try:
        manifest = _read_manifest(root, folder)
        digests = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
        if foreign := sorted(digests.keys() - OWN_FILES):
            raise ValueError(f"it names files that are never loaded: {', '.join(map(repr, foreign[:5]))}")
        files = {name: _read(root, folder, name) for name in digests}
        damaged = [name for name in files if hashlib.sha256(files[name]).hexdigest() != digests[name]]
        model = _model(manifest)
    except (OSError, *_UNREADABLE) as error:
        raise InvalidInput(f"model {reference!r} cannot be read ({error}): train it again") from None
    if damaged:
        raise InvalidInput(f"model {reference!r} was changed after its training ({', '.join(damaged)}): train it again")
    return StoredModel(model, files, manifest)


def folder_of(root: Path, tenant: str, user: str, name: str) -> Path:
    """Where the versions of a name lie, under the models or under what is staged."""
    return root / _safe(tenant) / _safe(user) / _safe(name)


def below(folder: Path, name: str | None = None) -> list[Path]:
    """The folders in a folder, but for hidden ones; or the one with this name, whether it is there or not."""
    if name is not None:
        return [folder / _safe(name)]
    with suppress(OSError), os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    return []


def versions(folder: Path) -> list[int]:
    """The versions in the folder of a name."""
    return [int(path.name) for path in below(folder) if path.name.isascii() and path.name.isdigit()]


def scan(folders: Folders, tenant: str | None = None, user: str | None = None) -> list[model_pb2.Model]:
    """All models, newest first; folders that cannot be read are left out."""
    found = [_model(manifest) for _, manifest in _manifests(folders, tenant, user)]
    return sorted(found, key=lambda model: (model.create_time.ToNanoseconds(), model.model_id), reverse=True)


def _find(folders: Folders, reference: str, tenant: str, user: str) -> Path:
    name, _, version = reference.partition("@")
    by_name = folder_of(folders.models, tenant, user, name)
    if not _ID.fullmatch(reference):
        there = sorted(versions(by_name), reverse=True)
        for number in [int(version)] if _VERSION.fullmatch(version) else [] if version else there:
            with suppress(OSError, *_UNREADABLE):
                if _model(_read_manifest(folders.models, by_name / str(number))).name == name:
                    return by_name / str(number)
        if there and version:
            raise InvalidInput(f"model {name!r} has no version {version}; there are: {', '.join(map(str, there[:20]))}")
    known = list(_manifests(folders, tenant, user))
    for folder, manifest in known:
        if manifest["model_id"] == reference:
            return folder
    names = sorted({manifest["name"] for _, manifest in known})
    raise InvalidInput(f"this worker has no model {reference!r}; {one_of(name, names)}")


def _manifests(folders: Folders, tenant: str | None, user: str | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Readable manifests of whole models, each with its folder."""
    for of_tenant in below(folders.models, tenant):
        for of_user in below(of_tenant, user):
            for of_name in below(of_user):
                for number in versions(of_name):
                    with suppress(OSError, *_UNREADABLE):
                        manifest = _read_manifest(folders.models, of_name / str(number))
                        model = _model(manifest)
                        if tenant in (None, model.tenant) and user in (None, model.user):
                            yield of_name / str(number), manifest


def _read_manifest(root: Path, folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(_read(root, folder, MANIFEST, MAX_MANIFEST_BYTES))
    if manifest["format"] != FORMAT or not manifest["files"]:
        raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
    return manifest


def _read(root: Path, folder: Path, name: str, most: int | None = None) -> bytes:
    """A file's bytes; OSError for anything but an ordinary file of one name, behind no link from `root` on."""
    names = (*folder.relative_to(root).parts, name)
    with os.fdopen(beneath.open_file(root, names), "rb") as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise ValueError(f"{name} is larger than {most:,} bytes")
        return file.read()


def _model(manifest: Mapping[str, Any]) -> model_pb2.Model:
    try:
        return json_format.ParseDict(dict(manifest), model_pb2.Model(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from None


def _safe(name: str) -> str:
    """The name as a folder on every system."""
    encoded = quote(name, safe="@ +,=")
    if encoded.endswith((".", " ")):
        encoded = f"{encoded[:-1]}%{ord(encoded[-1]):02X}"
    if not encoded or encoded.startswith(".") or _RESERVED.match(encoded):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}" if encoded else "%"
    return encoded
