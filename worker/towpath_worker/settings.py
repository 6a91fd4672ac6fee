"""Every knob of the worker: flag before environment (TOWPATH_*) before TOML file before default."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from towpath import settings as client
from towpath.tls import TlsFiles
from towpath_worker import credential, limits, machine
from towpath_worker.caps import Caps
from towpath_worker.handler import JOB_TYPE_PATTERN
from towpath_worker.limits import Limits
from towpath_worker.paths import Folders

if TYPE_CHECKING:
    from towpath_worker.state import StateFolder

MAX_DEFAULT_SLOTS = 4
DEFAULT_CAPS = Caps()
# What is larger means no limit at all, and no longer fits the system's numbers.
MOST = 10**12

#: A number of bytes, also as 512M or 8G.
Size = Annotated[int, BeforeValidator(limits.size)]


def default_slots() -> int:
    """Half of the cores, at most 4: a training uses several."""
    return max(1, min(MAX_DEFAULT_SLOTS, machine.cores() // 2))


def default_state_dir() -> Path:
    """Under the user's data folder."""
    return platformdirs.user_data_path("towpath") / "worker"


def config_path() -> Path:
    """The TOML file that is read when no other is named."""
    return platformdirs.user_config_path("towpath") / "worker.toml"


class WorkerSettings(BaseModel):
    """What a worker is started with. Made directly, it reads neither environment nor files; `load` does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str = client.DEFAULT_ADDRESS
    token: SecretStr | None = None
    token_file: Path | None = None
    insecure: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    name: str = Field(default_factory=lambda: platform.node()[:100], max_length=100)
    slots: int = Field(default_factory=default_slots, ge=1, le=4096)
    #: In place of `slots` where all job types served are inline.
    inline_slots: int = Field(default=512, ge=1, le=4096)
    handlers: Annotated[tuple[str, ...], NoDecode] = ()
    allow: Annotated[tuple[str, ...], NoDecode] = ()
    data_dirs: Annotated[tuple[Path, ...], NoDecode] = ()
    state_dir: Path = Field(default_factory=default_state_dir)
    labels: Annotated[dict[str, str], NoDecode] = {}
    max_tasks_per_child: int = Field(default=10_000, ge=1)
    #: Whose jobs it runs: its own user's, or those of its whole tenant.
    share: str = Field(default="user", pattern="^(user|tenant)$")
    #: A child process takes most of the least of it before it has begun.
    max_memory: Size | None = Field(default=None, ge=64 * machine.MIB)
    max_cpu_time: float | None = Field(default=None, gt=0, le=MOST)
    #: A child process needs some for itself.
    max_open_files: int | None = Field(default=None, ge=64, le=2**20)
    max_disk: Size | None = Field(default=None, ge=machine.MIB)
    max_processes: int = Field(default=limits.DEFAULT_PROCESSES, ge=1, le=2**22)
    max_table_bytes: Size = DEFAULT_CAPS.max_bytes
    max_table_rows: int = Field(default=DEFAULT_CAPS.max_rows, ge=1, le=MOST)
    max_table_columns: int = Field(default=DEFAULT_CAPS.max_columns, ge=1, le=MOST)
    max_table_cells: int = Field(default=DEFAULT_CAPS.max_cells, ge=1, le=MOST)
    run_once: bool = False
    #: Seconds that a stopping worker waits for the last acks. What is not acked waits on disk for its next start.
    last_words: float = Field(default=5.0, ge=0)
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("give --tls-cert and --tls-key together")
        if self.insecure and (self.tls_ca or self.tls_cert):
            raise ValueError("give --insecure for plain text, or --tls-ca and --tls-cert for TLS, not both")
        return self

    @field_validator("server")
    @classmethod
    def _address(cls, given: str) -> str:
        return client.address(given)

    @field_validator("handlers", "allow", "data_dirs", mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        words = given.split(",") if isinstance(given, str) else given
        return tuple(word.strip() if isinstance(word, str) else word for word in words if word)

    @field_validator("allow")
    @classmethod
    def _job_types(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            if not JOB_TYPE_PATTERN.fullmatch(one):
                raise ValueError(f"{one!r} is not a job type")
        return given

    @field_validator("data_dirs")
    @classmethod
    def _folders(cls, given: tuple[Path, ...]) -> tuple[Path, ...]:
        for one in given:
            if not one.expanduser().is_dir():
                raise ValueError(f"{one} is not a folder")
        return tuple(one.expanduser().resolve() for one in given)

    @field_validator("labels", mode="before")
    @classmethod
    def _pairs(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            return given
        pairs = given.split(",") if isinstance(given, str) else given
        labels = {}
        for pair in pairs:
            key, equals, value = str(pair).partition("=")
            if not key.strip() or not equals:
                raise ValueError(f"{pair!r} is not a label: write KEY=VALUE")
            labels[key.strip()] = value.strip()
        return labels

    def folders(self, state: StateFolder) -> Folders:
        """What jobs may read and write."""
        caps = Caps(self.max_table_bytes, self.max_table_rows, self.max_table_columns, self.max_table_cells)
        return Folders(
            data=self.data_dirs,
            models=state.models,
            results=state.results,
            private=(state.root, config_path().parent),
            caps=caps,
        )

    def limits(self) -> Limits:
        """What one job may use."""
        return Limits(self.max_memory, self.max_cpu_time, self.max_open_files, self.max_disk, self.max_processes)


class _Sourced(WorkerSettings, BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TOWPATH_WORKER_", frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(flags: Mapping[str, Any], config: Path | None = None, *, with_token: bool = True) -> WorkerSettings:
    """Settings from flags (those not None), environment, TOML file and defaults; the token too, if it is anywhere.

    Raises ValueError that says what is wrong with which of them.
    """
    if config is not None and not config.is_file():
        raise ValueError(f"There is no configuration file {config}.")
    file = config or config_path()

    class Sourced(_Sourced):
        model_config = SettingsConfigDict(toml_file=file)

    given = {name: value for name, value in flags.items() if value not in (None, (), [])}
    if "server" not in given and (address := os.environ.get(client.ADDRESS_VARIABLE)):
        given["server"] = address
    sourced = _with_tls(Sourced(**given))
    return _with_token(sourced, flagged="token_file" in given) if with_token else sourced


def _with_tls(sourced: _Sourced) -> WorkerSettings:
    """With what all of a user's clients read from the environment, where the worker was told nothing of its own."""
    found = TlsFiles.of(sourced.tls_ca, sourced.tls_cert, sourced.tls_key, insecure=sourced.insecure)
    return sourced.model_copy(update={"tls_ca": found.ca, "tls_cert": found.cert, "tls_key": found.key})


def _with_token(sourced: WorkerSettings, *, flagged: bool) -> WorkerSettings:
    """With the token that was named, or the credential of this worker, or the user's own token: the first there is."""
    found = _named_token(sourced, flagged=flagged)
    if found is None and (kept := credential.find(sourced.state_dir)) is not None:
        server = sourced.server if "server" in sourced.model_fields_set else kept.server
        secret = kept.secret_for(server, sourced.state_dir)
        told = sourced.insecure or any((sourced.tls_ca, sourced.tls_cert, sourced.tls_key))
        # It is reached as it was when this worker joined, unless it is told otherwise now.
        way = {} if told else {"insecure": kept.insecure, **kept.tls}
        return sourced.model_copy(update={"server": server, "token": SecretStr(secret), **way})
    found = found or client.token()
    return sourced.model_copy(update={"token": SecretStr(found) if found else None})


def _named_token(sourced: WorkerSettings, *, flagged: bool) -> str | None:
    file = sourced.token_file
    in_environment = client.TOKEN_VARIABLE in os.environ or client.TOKEN_FILE_VARIABLE in os.environ
    if file is not None and (flagged or not (in_environment or sourced.token)):
        return client.read_token(file.expanduser())
    if in_environment:
        return client.token()
    return client.token(sourced.token.get_secret_value()) if sourced.token is not None else None
