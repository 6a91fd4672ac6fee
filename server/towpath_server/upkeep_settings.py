"""The settings of the commands that look after a store."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from towpath_server import store_url
from towpath_server.settings import ServerSettings, StoreSettings, config_folder
from towpath_server.store_url import MEMORY, SQLITE


class Unfinished(Exception):
    """A command has done a part of what it was to do. The message is what it says at its end."""


class _FileSettings(StoreSettings):
    as_json: bool = Field(default=False, description="print one JSON object")

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return Path(self.store.removeprefix(SQLITE)).expanduser().resolve()

    @field_validator("store")
    @classmethod
    def _in_a_file(cls, store: str) -> str:
        if store == MEMORY:
            raise ValueError(f"give {SQLITE}PATH: a store in memory is in no file")
        if store_url.is_postgres(store):
            raise ValueError(
                f"give {SQLITE}PATH: a store in PostgreSQL is copied with pg_dump (and taken back with pg_restore), "
                "or by the backups of your database"
            )
        return store


class BackupSettings(_FileSettings):
    """Copy the store to one file, also while a scheduler runs. `towpath-server restore` takes it back."""

    model_config = SettingsConfigDict(cli_prog_name="towpath-server backup", cli_shortcuts={"as-json": "json"})

    to: CliPositionalArg[Path] = Field(description="the file to write, or a folder for a file with date and time")
    force: bool = Field(default=False, description="write over a file that is there already")


class RestoreSettings(_FileSettings):
    """Put a backup in the place of the store, which is kept beside it. Stop the scheduler first."""

    model_config = SettingsConfigDict(cli_prog_name="towpath-server restore", cli_shortcuts={"as-json": "json"})

    backup: CliPositionalArg[Path] = Field(description="a file that `towpath-server backup` wrote")


class MigrateSettings(StoreSettings):
    """Bring a store to the schema of this version. A PostgreSQL store stays in use meanwhile.

    Schedulers of the version before go on working on it. Steps that would stop a scheduler which is running are held
    back, and the program ends with 1: upgrade or stop those, and run it again. A SQLite file must not be in use; the
    scheduler that opens it does the same.
    """

    model_config = SettingsConfigDict(cli_prog_name="towpath-server migrate", cli_shortcuts={"as-json": "json"})

    dry_run: bool = Field(default=False, description="say what would be done, and change nothing")
    as_json: bool = Field(default=False, description="print one JSON object")

    @field_validator("store")
    @classmethod
    def _lasting(cls, store: str) -> str:
        if store == MEMORY:
            raise ValueError("a store in memory has nothing to migrate")
        return store


class NewTokenSettings(StoreSettings):
    """Make an admin's token where the last one is lost; nothing but the store is needed.

    Stop the scheduler of a SQLite file first. Those on PostgreSQL go on, and take the token at once. It is written to a
    file and shown nowhere. Tokens of before stay as they are.
    """

    model_config = SettingsConfigDict(cli_prog_name="towpath-server new-token")

    output: Path | None = Field(
        default=None, description="a new file for the token (mode 0600), in place of the one in --config-dir"
    )
    name: str = Field(default="new admin", min_length=1, max_length=100, description="what the token is called")
    config_dir: Path = Field(
        default=config_folder(), description="folder for the token (file `token`; an older one is kept beside it)"
    )

    @property
    def file(self) -> Path:
        """Where the token goes."""
        return (self.config_dir / "token" if self.output is None else self.output).expanduser().absolute()

    @property
    def needs_naming(self) -> bool:
        """Whether clients do not find that file by themselves."""
        return self.file != config_folder() / "token"

    @field_validator("store")
    @classmethod
    def _lasting(cls, store: str) -> str:
        if store == MEMORY:
            raise ValueError("a store in memory is gone with its scheduler: start that again, and it makes a token")
        return store


class MoveSettings(ServerSettings):
    """Take a whole store elsewhere: jobs, logs, workers, tokens, all of it. Stop its schedulers first.

    The new store must be an empty database, or a file that is not there yet. It is there whole at the end, or not at
    all; the old one stays as it is. Workers and clients go on with the new one as after a restart.
    """

    model_config = SettingsConfigDict(
        cli_prog_name="towpath-server move",
        cli_shortcuts={"as-json": "json", "move-from": "from", "move-to": "to"},
    )

    move_from: str = Field(
        repr=False, description="the store as it is: sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    )
    move_to: str = Field(
        repr=False,
        description="where it goes, in the same words. A password goes into PGPASSWORD, ~/.pgpass or "
        "TOWPATH_SERVER_MOVE_FROM and TOWPATH_SERVER_MOVE_TO",
    )
    as_json: bool = Field(default=False, description="print one JSON object")

    @field_validator("move_from", "move_to")
    @classmethod
    def _lasting(cls, url: str) -> str:
        store_url.check(url)
        if url == MEMORY:
            raise ValueError("a store in memory is gone with its scheduler")
        return url

    @model_validator(mode="after")
    def _another_place(self) -> Self:
        if self.move_from == self.move_to:
            raise ValueError("--from and --to are the same store")
        return self
