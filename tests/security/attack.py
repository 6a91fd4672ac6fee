"""Attacks a scheduler, and the worker behind it, that are your own, and prints what came of each attempt.

    python tests/security/attack.py --server HOST:PORT [--token-file FILE] [--data-dir DIR] [--json]

It makes throwaway users, tokens and jobs, and takes them away at its end. With an admin's token it can try most. With
--data-dir (the worker's own) it also puts traps there, in a folder of its own. Nothing of ours is needed beside
`towpath.v1` and grpc. It ends with 1 where anything fell, with 2 where it could not run, else with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from security.attacks import identity, machine, traces, wire
from security.attacks.ground import BROKE, FELL, HELD, SKIPPED, C, Target, Verdict, run
from towpath.v1 import auth_service_pb2

ALL = (identity, wire, traces, machine)


def main(words: Sequence[str] | None = None) -> int:
    """Attack, print, and say how it ended."""
    given = _parser().parse_args(words)
    target = _target(given)
    try:
        code, words_ = target.owner.code(target.owner.auth.WhoAmI, auth_service_pb2.WhoAmIRequest())
        if code is not C.OK:
            print(f"{given.server} does not take this token: {code.name}. {words_}", file=sys.stderr)
            return 2
        verdicts = []
        for one in run(target, given.only, given.without):
            verdicts.append(one)
            if not given.json:
                _show(one)
    finally:
        target.clean()
    if given.json:
        print(json.dumps([asdict(one) for one in verdicts], indent=2))
    counts = {verdict: sum(one.verdict == verdict for one in verdicts) for verdict in (HELD, SKIPPED, BROKE, FELL)}
    if not given.json:
        print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts[FELL]:
        return 1
    return 2 if counts[BROKE] or not verdicts else 0


def _show(one: Verdict) -> None:
    print(f"{one.verdict:8} {one.attack:24} {one.tried}\n{'':33} -> {one.came_back}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:7070", metavar="HOST:PORT")
    parser.add_argument("--token-file", type=Path, help="default: what TOWPATH_TOKEN or TOWPATH_TOKEN_FILE says")
    parser.add_argument("--tls-ca", type=Path, help="PEM certificates to trust; the connection is then encrypted")
    parser.add_argument("--tls-cert", type=Path, help="a certificate to show, where the server asks for one")
    parser.add_argument("--tls-key", type=Path, help="its key")
    parser.add_argument("--data-dir", type=Path, action="append", default=[], help="the worker's: traps are put there")
    parser.add_argument(
        "--models-dir", type=Path, help="the worker's STATE_DIR/models: a model with a pickle is put there"
    )
    parser.add_argument("--log", type=Path, action="append", default=[], help="log to look into for what was injected")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this attack; again for more")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="not this one; again for more")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a job may take")
    parser.add_argument("--json", action="store_true", help="print JSON at the end")
    return parser


def _target(given: argparse.Namespace) -> Target:
    file = given.token_file or os.environ.get("TOWPATH_TOKEN_FILE")
    secret = Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get("TOWPATH_TOKEN", "")
    trusted, key, cert = (
        path.read_bytes() if path is not None else None for path in (given.tls_ca, given.tls_key, given.tls_cert)
    )

    def dial() -> grpc.Channel:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_metadata_size", 16 << 20)]
        if trusted is None:
            return grpc.insecure_channel(given.server, options)
        return grpc.secure_channel(given.server, grpc.ssl_channel_credentials(trusted, key, cert), options)

    return Target(
        given.server,
        dial,
        secret,
        tuple(given.data_dir),
        given.models_dir,
        tuple(given.log),
        trusted is not None,
        given.seconds,
    )


if __name__ == "__main__":
    sys.exit(main())
