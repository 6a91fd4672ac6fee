"""Every knob of the scheduler: flag, then environment (TOWPATH_SERVER_*), then TOML file, then default."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Annotated, Self

import platformdirs
from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSuppress,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from towpath_server import store_url
from towpath_server.store_url import MEMORY, SQLITE

__all__ = ["MEMORY", "SQLITE"]

DEFAULT_LISTEN = "127.0.0.1:7070"


def config_folder() -> Path:
    """Where this user's Towpath settings lie."""
    return platformdirs.user_config_path("towpath")


def config_file() -> Path:
    """The TOML file: TOWPATH_SERVER_CONFIG, or server.toml in the user's settings."""
    return Path(os.environ.get("TOWPATH_SERVER_CONFIG", config_folder() / "server.toml"))


def default_store() -> str:
    """The embedded store in this user's data folder."""
    return f"{SQLITE}{platformdirs.user_data_path('towpath') / 'towpath.db'}"


class ServerSettings(BaseSettings):
    """Where settings come from: flags, then TOWPATH_SERVER_*, then the TOML file."""

    model_config = SettingsConfigDict(
        env_prefix="TOWPATH_SERVER_",
        env_ignore_empty=True,
        extra="ignore",
        cli_prog_name="towpath-server",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())


class StoreSettings(ServerSettings):
    """Which store."""

    # It may hold a password.
    store: str = Field(
        default=default_store(),
        repr=False,
        description="where jobs are kept: sqlite:///PATH, postgresql://USER@HOST/DATABASE for several schedulers, "
        "or memory: for nothing lasting. A password goes into PGPASSWORD, ~/.pgpass or TOWPATH_SERVER_STORE",
    )

    @field_validator("store")
    @classmethod
    def _known_store(cls, store: str) -> str:
        store_url.check(store)
        return store

    @property
    def shown_store(self) -> str:
        """The store for people: without a password."""
        return store_url.shown(self.store)

    @property
    def store_path(self) -> Path | None:
        """The SQLite file; None for another store."""
        return store_url.path_of(self.store)


class Settings(StoreSettings):
    """The Towpath scheduler: it keeps jobs and hands them to the workers that ask.

    Other commands, each with its own --help:
      towpath-server backup TO        copy the store, also while a scheduler runs
      towpath-server restore BACKUP   put a copy in the place of the store
      towpath-server migrate          bring a PostgreSQL store to this version's schema
      towpath-server move             take a store from SQLite to PostgreSQL, or back
      towpath-server new-token        make an admin's token where the last one is lost
      towpath-server tls-init         make a private CA and certificates for a home network
    """

    listen: str = Field(default=DEFAULT_LISTEN, description="HOST:PORT to listen on; port 0 takes a free one")
    config_dir: Path = Field(
        default=config_folder(), description="folder for the first admin's token (file `token`, mode 0600)"
    )
    insecure: bool = Field(default=False, description="allow plain text beyond this machine")
    tls_cert: Path | None = Field(default=None, description="certificate chain (PEM)")
    tls_key: Path | None = Field(default=None, description="its private key (PEM)")
    tls_client_ca: Path | None = Field(
        default=None, description="only clients and workers with a certificate of this CA may connect (PEM)"
    )
    heartbeat_interval: float = Field(default=3.0, gt=0, description="workers send a heartbeat this often (seconds)")
    lease_ttl: float = Field(
        default=15.0, gt=0, description="a silent worker's jobs go to others after this long (seconds)"
    )
    poll_timeout: float = Field(default=25.0, gt=0, le=60, description="longest wait of a worker's poll (seconds)")
    drain_grace: float = Field(default=10.0, ge=0, description="longest time to stop in (seconds)")
    log_level: str = Field(default="info", description="debug, info, warning or error")
    log_json: bool = Field(default=False, description="write logs as JSON lines")
    profile_stages: bool = Field(
        default=False, description="measure each stage; SIGUSR1 and the end write a table to standard error"
    )
    version: CliSuppress[Annotated[bool, Field(description="print the version")]] = False

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("give debug, info, warning or error")
        return level.lower()

    @field_validator("listen")
    @classmethod
    def _whole_address(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"give HOST:PORT, not {listen!r}")
        return listen

    @model_validator(mode="after")
    def _safe_address(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("give --tls-cert and --tls-key together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key: without TLS no certificate is shown")
        if self.insecure and self.tls_cert is not None:
            raise ValueError("give --insecure for plain text, or --tls-cert and --tls-key for TLS, not both")
        if self.tls_cert is None and not self.insecure and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} can be reached from other machines: give --tls-cert and --tls-key "
                "(`towpath-server tls-init` makes them), or --insecure to send jobs and tokens in plain text"
            )
        if self.heartbeat_interval * 3 > self.lease_ttl:
            raise ValueError("--lease-ttl must be at least three times --heartbeat-interval")
        return self

    @property
    def host(self) -> str:
        """The address without the port."""
        return self.listen.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port; 0 takes a free one."""
        return int(self.listen.rpartition(":")[2])


def is_loopback(host: str) -> bool:
    """Whether nobody beyond this machine can reach the address."""
    name = host.strip("[]")
    try:
        # A name that stands for this machine by custom, not by law.
        named = {str(one[4][0]) for one in socket.getaddrinfo(name, None)} if name.lower() == "localhost" else {name}
        return all(ipaddress.ip_address(one).is_loopback for one in named)
    except (ValueError, OSError):
        return False
