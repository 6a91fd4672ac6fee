"""What the global options say: where the scheduler is, whose token to show, and how to print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

    from towpath import Client


@dataclass(frozen=True, slots=True)
class Invocation:
    """The global options of one run of `towpath`."""

    server: str | None = None
    token_file: Path | None = None
    insecure: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    json: bool = False

    @staticmethod
    def of(ctx: typer.Context) -> Invocation:
        """The options given to the command that runs."""
        found = ctx.find_object(Invocation)
        assert found is not None
        return found

    def client(self) -> Client:
        """A client for the scheduler that the options name. Close it, or use it in `with`."""
        from towpath import Client, settings

        token = settings.read_token(self.token_file.expanduser()) if self.token_file else None
        return Client(
            self.server,
            token,
            insecure=self.insecure,
            tls_ca=self.tls_ca,
            tls_cert=self.tls_cert,
            tls_key=self.tls_key,
        )
