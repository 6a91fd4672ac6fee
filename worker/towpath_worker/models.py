"""The models on this machine: a folder each, `<models>/<tenant>/<user>/<name>/<version>/`.

A folder is written elsewhere, synced, and given its name by one rename: it is there whole or not at all, and two
trainings never get the same version. `towpath.json` says what lies in it; a file whose SHA-256 differs is not loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from google.protobuf import json_format

from towpath.v1 import model_pb2
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders
from towpath_worker.tabular.checks import one_of

MANIFEST = "towpath.json"
FORMAT = 1
_STAGING = ".staging"
_STALE_SECONDS = 24 * 3600
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
#: What two attempts of a job that did the same have in common. (The bytes of a skops file always differ.)
_THE_SAME = ("job_id", "name", "model_type", "target_column", "features", "classes", "metrics", "hyperparameters")
_ID = re.compile(r"mdl_[0-7][0-9a-hjkmnp-tv-z]{12}")
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


def publish(
    folders: Folders,
    model: model_pb2.Model,
    files: Mapping[str, bytes],
    details: Mapping[str, Any],
    *,
    before: Callable[[], None] | None = None,
) -> model_pb2.Model:
    """Stores a model under its name's next version; returns it with version, size and, if it had none, id and time.

    `details` go into `towpath.json`. `before` is called when all is written and only the name is missing, again where
    another took the version meanwhile; what it raises stops the publication. The same job publishing a model that
    measures the same gets the version that it has.
    """
    model = _complete(model, files)
    place = folders.models / _safe(model.tenant) / _safe(model.user) / _safe(model.name)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    earlier = _published_before(place, model)
    if earlier is not None:
        return earlier
    place.mkdir(parents=True, exist_ok=True)
    staging = folders.models / _STAGING / f"{model.model_id}-{secrets.token_hex(4)}"
    _sweep(staging.parent)
    staging.mkdir(parents=True)
    try:
        for name, content in files.items():
            _write(staging / name, content)
        version = max(_versions(place), default=0)
        while True:
            version += 1
            model.version = version
            _write(staging / MANIFEST, _manifest(model, digests, details))
            _sync_folder(staging)
            if before is not None:
                before()
            if _claim(staging, place / str(version)):
                return model
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load(folders: Folders, reference: str, tenant: str, user: str) -> StoredModel:
    """The model of an id, `name` (its newest version) or `name@version`; every file is checked against its SHA-256.

    Raises InvalidInput that says what there is.
    """
    return load_folder(_find(folders, reference, tenant, user), reference)


def load_folder(folder: Path, reference: str) -> StoredModel:
    """The model in a folder, its files checked; `reference` is what a person calls it. Raises InvalidInput."""
    try:
        manifest = _read_manifest(folder)
        files = {name: (folder / name).read_bytes() for name in manifest["files"] if Path(name).name == name}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"model {reference!r} cannot be read ({error}): train it again") from None
    damaged = [
        name
        for name, entry in manifest["files"].items()
        if name not in files or hashlib.sha256(files[name]).hexdigest() != entry["sha256"]
    ]
    if damaged:
        raise InvalidInput(f"model {reference!r} was changed after its training ({', '.join(damaged)}): train it again")
    return StoredModel(_model(manifest), files, manifest)


def scan(folders: Folders, tenant: str | None = None, user: str | None = None) -> list[model_pb2.Model]:
    """All models, newest first; folders that cannot be read are left out."""
    found = [_model(manifest) for _, manifest in _manifests(folders, tenant, user)]
    return sorted(found, key=lambda model: (model.create_time.ToNanoseconds(), model.model_id), reverse=True)


def _complete(model: model_pb2.Model, files: Mapping[str, bytes]) -> model_pb2.Model:
    complete = model_pb2.Model()
    complete.CopyFrom(model)
    complete.model_id = complete.model_id or new_model_id()
    complete.size_bytes = sum(map(len, files.values()))
    if not complete.HasField("create_time"):
        complete.create_time.GetCurrentTime()
    return complete


def _find(folders: Folders, reference: str, tenant: str, user: str) -> Path:
    name, _, version = reference.partition("@")
    by_name = folders.models / _safe(tenant) / _safe(user) / _safe(name)
    if not _ID.fullmatch(reference):
        versions = sorted(_versions(by_name), reverse=True)
        for number in [int(version)] if version.isdigit() else [] if version else versions:
            with suppress(OSError, ValueError, KeyError, TypeError):
                if _model(_read_manifest(by_name / str(number))).name == name:
                    return by_name / str(number)
        if versions and version:
            raise InvalidInput(
                f"model {name!r} has no version {version}; there are: {', '.join(map(str, versions[:20]))}"
            )
    known = list(_manifests(folders, tenant, user))
    for folder, manifest in known:
        if manifest["model_id"] == reference:
            return folder
    names = sorted({manifest["name"] for _, manifest in known})
    raise InvalidInput(f"this worker has no model {reference!r}; {one_of(name, names)}")


def _manifests(folders: Folders, tenant: str | None, user: str | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Readable manifests of whole models, each with its folder."""
    for of_tenant in _below(folders.models, tenant):
        for of_user in _below(of_tenant, user):
            for of_name in _below(of_user):
                for number in _versions(of_name):
                    with suppress(OSError, ValueError, KeyError, TypeError):
                        manifest = _read_manifest(of_name / str(number))
                        model = _model(manifest)
                        if tenant in (None, model.tenant) and user in (None, model.user):
                            yield of_name / str(number), manifest


def _below(folder: Path, name: str | None = None) -> list[Path]:
    if name is not None:
        return [folder / _safe(name)]
    with suppress(OSError):
        return [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    return []


def _versions(folder: Path) -> list[int]:
    return [int(path.name) for path in _below(folder) if path.name.isascii() and path.name.isdigit()]


def _read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    if manifest["format"] != FORMAT or not manifest["files"]:
        raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
    return manifest


def _model(manifest: Mapping[str, Any]) -> model_pb2.Model:
    try:
        return json_format.ParseDict(dict(manifest), model_pb2.Model(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from None


def _manifest(model: model_pb2.Model, digests: Mapping[str, str], details: Mapping[str, Any]) -> bytes:
    content = {
        **json_format.MessageToDict(model, preserving_proto_field_name=True),
        **details,
        "format": FORMAT,
        "files": {name: {"sha256": digest} for name, digest in digests.items()},
    }
    return json.dumps(content, indent=1).encode()


def _published_before(place: Path, model: model_pb2.Model) -> model_pb2.Model | None:
    """What an earlier attempt of the job left behind, when it died between publishing and saying so."""
    for number in sorted(_versions(place), reverse=True) if model.job_id else []:
        with suppress(OSError, ValueError, KeyError, TypeError):
            stored = _model(_read_manifest(place / str(number)))
            if all(getattr(stored, name) == getattr(model, name) for name in _THE_SAME):
                return stored
    return None


def _claim(staging: Path, final: Path) -> bool:
    """Whether the folder got its name; False where another has it."""
    try:
        staging.rename(final)
    except OSError:
        if final.exists():
            return False
        raise
    _sync_folder(final.parent)
    return True


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(staging: Path) -> None:
    """Removes what killed trainings left."""
    for path in _below(staging):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _safe(name: str) -> str:
    """The name as a folder on every system."""
    encoded = quote(name, safe="@ +,=")
    if encoded.endswith((".", " ")):
        encoded = f"{encoded[:-1]}%{ord(encoded[-1]):02X}"
    if not encoded or encoded.startswith(".") or _RESERVED.match(encoded):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}" if encoded else "%"
    return encoded
