"""`towpath doctor`: what is wrong with address, TLS, token, clock or version."""

from __future__ import annotations

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation


def doctor(ctx: typer.Context) -> None:
    """Say what is wrong with address, TLS, token, clock or version. Exit code 0: all is well; 1: something is not."""
    from towpath.doctor import examine

    given = Invocation.of(ctx)
    findings = []
    last = ""
    for one in examine(
        given.server,
        given.token_file,
        insecure=given.insecure,
        tls_ca=given.tls_ca,
        tls_cert=given.tls_cert,
        tls_key=given.tls_key,
    ):
        findings.append(one)
        if given.json:
            continue
        if one.address != last:
            last = one.address
            output.line(last)
        output.line(f"  {'ok   ' if one.is_well else 'WRONG'}  {one.check}: {output.printable(one.words)}")
        if one.advice:
            output.line(f"         {output.printable(one.advice)}")
    is_well = all(one.is_well for one in findings)
    if given.json:
        output.document({"ok": is_well, "checks": [one.to_dict() for one in findings]})
    if not is_well:
        raise typer.Exit(1)
