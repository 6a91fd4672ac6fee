"""Models between their training and their name: a lease writes one, and the scheduler's word decides what it becomes.

`<models>/.staging/<tenant>/<user>/<name>/<version>/` holds `lease`, which says whose it is, and `model/`. One rename
makes that `<models>/<tenant>/<user>/<name>/<version>/`, whole, synced, and not before the scheduler has accepted the
lease's result. The staged folder also reserves its version: no two trainings are told the same one, and a training that
is refused leaves a gap at most.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from towpath.v1 import model_pb2
from towpath_worker import models
from towpath_worker.paths import Folders

#: A job's id and its lease token.
Lease = tuple[str, str]

STAGING = ".staging"
_LEASE = "lease"
_MODEL = "model"


def stage(
    folders: Folders, model: model_pb2.Model, files: Mapping[str, bytes], details: Mapping[str, Any], lease: Lease
) -> model_pb2.Model:
    """Writes a model that nobody sees yet; returns it with its version, size and, if it had none, id and time.

    `details` go into `towpath.json`. The lease is whose result it is: `publish` and `discard` ask for it.
    """
    model = _complete(model, files)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    place = _reserve(folders, model)
    try:
        _write(place / _LEASE, "\n".join(lease).encode())
        model.version = int(place.name)
        staged = place / _MODEL
        staged.mkdir()
        for name, content in files.items():
            _write(staged / name, content)
        _write(staged / models.MANIFEST, _manifest(model, digests, details))
        _sync_folder(staged)
        _sync_up(place, folders.models)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return model


def publish(folders: Folders, lease: Lease, *, named: Callable[[], None] = lambda: None) -> bool:
    """Gives what the lease staged its name; whether there was anything. Raises OSError: it is still staged then.

    Again after a crash in the middle: it is done once. `named` is called when that is on disk, and before the staged
    folder is gone.
    """
    there = False
    for place in _of(folders, lease):
        final = folders.models / place.relative_to(folders.models / STAGING)
        staged = place / _MODEL
        # Not is_dir(): what cannot be read must not pass for what is not there.
        if fresh := _is_there(staged):
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                staged.rename(final)
            except OSError:
                if final.exists():
                    raise FileExistsError(f"{final} is in the way of a new model: move it elsewhere") from None
                raise
        if _is_there(final):
            there = True
            # Also where an earlier try has renamed it: that may have failed right here.
            _sync_up(final.parent, folders.models)
        if fresh:
            named()
        shutil.rmtree(place, ignore_errors=True)
    return there


def discard(folders: Folders, lease: Lease) -> None:
    """Deletes what the lease staged. What cannot be read now is left to the next `sweep`."""
    with suppress(OSError):
        for place in _of(folders, lease):
            shutil.rmtree(place, ignore_errors=True)


def leases(folders: Folders) -> set[Lease]:
    """Whose models are staged. Raises OSError where that cannot be read."""
    found, unread = _survey(folders)
    if unread:
        raise unread[0]
    return {lease for lease in found.values() if lease is not None}


def sweep(folders: Folders, keep: Collection[Lease]) -> None:
    """Deletes what killed trainings left: all but what these leases staged. For a worker that runs nothing yet.

    What cannot be read is kept: it may be one of theirs.
    """
    found, unread = _survey(folders)
    stale = [place for place, lease in found.items() if lease not in keep]
    if len(stale) == len(found) and not unread:
        stale = [folders.models / STAGING]
    for place in stale:
        shutil.rmtree(place, ignore_errors=True)


def _reserve(folders: Folders, model: model_pb2.Model) -> Path:
    """A fresh folder whose name is a version that nobody else has or was told."""
    final = models.folder_of(folders.models, model.tenant, model.user, model.name)
    waiting = models.folder_of(folders.models / STAGING, model.tenant, model.user, model.name)
    waiting.mkdir(parents=True, exist_ok=True)
    # Staged before published: what moves between the two looks is seen by the second.
    version = max([*models.versions(waiting), *models.versions(final)], default=0)
    while True:
        version += 1
        place = waiting / str(version)
        with suppress(FileExistsError):
            place.mkdir()
            if not (final / place.name).exists():
                return place
            place.rmdir()


def _survey(folders: Folders) -> tuple[dict[Path, Lease | None], list[OSError]]:
    """Whose each staged folder is, None where it does not say so; and why others cannot be read."""
    unread: list[OSError] = []
    places = [folders.models / STAGING]
    for _level in ("tenant", "user", "name", "version"):
        above, places = places, []
        for folder in above:
            try:
                places += _below(folder)
            except OSError as error:
                unread.append(error)
    found: dict[Path, Lease | None] = {}
    for place in places:
        try:
            found[place] = _lease(place)
        except OSError as error:
            unread.append(error)
    return found, unread


def _of(folders: Folders, lease: Lease) -> list[Path]:
    found, unread = _survey(folders)
    own = [place for place, whose in found.items() if whose == lease]
    if unread and not own:
        raise unread[0]
    return own


def _below(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    return []


def _lease(place: Path) -> Lease | None:
    with suppress(FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        job_id, _, token = (place / _LEASE).read_text(encoding="utf-8").partition("\n")
        return job_id, token
    return None


def _is_there(path: Path) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError):
        path.lstat()
        return True
    return False


def _complete(model: model_pb2.Model, files: Mapping[str, bytes]) -> model_pb2.Model:
    complete = model_pb2.Model()
    complete.CopyFrom(model)
    complete.model_id = complete.model_id or models.new_model_id()
    complete.size_bytes = sum(map(len, files.values()))
    if not complete.HasField("create_time"):
        complete.create_time.GetCurrentTime()
    return complete


def _manifest(model: model_pb2.Model, digests: Mapping[str, str], details: Mapping[str, Any]) -> bytes:
    content = {
        **json_format.MessageToDict(model, preserving_proto_field_name=True),
        **details,
        "format": models.FORMAT,
        "files": {name: {"sha256": digest} for name, digest in digests.items()},
    }
    return json.dumps(content, indent=1).encode()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_up(folder: Path, root: Path) -> None:
    """Syncs a folder and those above it, up to the root: any of them may be new."""
    while True:
        _sync_folder(folder)
        if folder == root:
            return
        folder = folder.parent


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
