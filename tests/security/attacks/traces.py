"""What stays behind: secrets where they can be read, and names that forge lines of a log or repaint a terminal."""

from __future__ import annotations

import json
import secrets
from functools import partial
from typing import Any

from google.protobuf import json_format

from security.attacks.ground import SECONDS, C, Fell, Skipped, Target, attack, code_of, expect
from towpath.v1 import (
    admin_service_pb2,
    auth_service_pb2,
    fleet_service_pb2,
    job_pb2,
    job_service_pb2,
)

FORGED = "2026-01-01T00:00:00Z [error] forged-{mark}"
TRICKS = (
    "\r\n",
    "\n",
    "\x1b[2J\x1b[31m",
    "\u202e",
    "\u2028",
    "\x85",
    "\x9b31m",
    "\b\b\b\b",
    "<script>alert(1)</script>",
)


@attack(
    "secrets in listings", "tokens, audit, jobs, workers, errors and the server's own words are searched for secrets"
)
def secrets_in_listings(target: Target) -> str:
    by = target.party(auth_service_pb2.ROLE_ADMIN)
    target.submit(by)
    calls: list[tuple[Any, Any]] = [
        (by.auth.ListTokens, auth_service_pb2.ListTokensRequest(page_size=1000)),
        (by.auth.WhoAmI, auth_service_pb2.WhoAmIRequest()),
        (by.admin.ListAuditEvents, admin_service_pb2.ListAuditEventsRequest(page_size=1000)),
        (by.admin.GetServerInfo, admin_service_pb2.GetServerInfoRequest()),
        (by.jobs.ListJobs, job_service_pb2.ListJobsRequest(page_size=100)),
        (by.fleet.ListWorkers, fleet_service_pb2.ListWorkersRequest(include_offline=True)),
    ]
    said = ""
    for method, request in calls:
        answer = method(request, metadata=by.me, timeout=SECONDS)
        said += json_format.MessageToJson(answer, ensure_ascii=False)
    for path in target.logs:
        said += path.read_text(encoding="utf-8", errors="replace")
    for secret in (target.secret, by.secret, by.secret[4:40]):
        if secret and secret in said:
            raise Fell("a secret is shown")
    return f"nothing in {len(said):,} characters"


@attack("forged log lines", "names with line feeds, ANSI, bidi and script: worker, reason, labels, token, metadata")
def forged_log_lines(target: Target) -> str:
    mark = secrets.token_hex(6)
    owner, found = target.owner, set()
    for trick in TRICKS:
        name = f"x{trick}{FORGED.format(mark=mark)}"
        worker = target.party(auth_service_pb2.ROLE_WORKER)
        found.add(code_of(partial(target.register, worker, name)))
        job = job_pb2.Job(custom=job_pb2.CustomSpec(type="attack.nothing"), labels={"a": name}, workspace=name[:100])
        made = target.submit(owner, job)
        cancel = job_service_pb2.CancelJobRequest(job_id=made.job_id, reason=name)
        found.add(owner.code(owner.jobs.CancelJob, cancel))
        lost = auth_service_pb2.CreateTokenRequest(name=name, user=name, role=auth_service_pb2.ROLE_VIEWER)
        found.add(owner.code(owner.auth.CreateToken, lost))
        who: Any = target.channel.unary_unary("/towpath.v1.AuthService/WhoAmI")
        printable = "".join(letter for letter in name if " " <= letter <= "~")
        found.add(code_of(partial(who, b"", metadata=(("authorization", printable),), timeout=SECONDS)))
    expect(found, C.OK, C.INVALID_ARGUMENT, C.UNAUTHENTICATED)
    if not target.logs:
        raise Skipped(f"sent; look for {mark} in the logs yourself, or name them with --log")
    lines = [line for path in target.logs for line in _lines(path.read_bytes())]
    for line in lines:
        if line.startswith(FORGED.format(mark=mark)[:20].encode()):
            raise Fell("a name made a line of its own")
        if mark.encode() in line and any(bad in line for bad in (b"\x1b", b"\xe2\x80\xae", b"\x08", b"\xc2\x9b")):
            raise Fell(f"a line can repaint a terminal: {line[:120]!r}")
    named = sum(mark.encode() in line for line in lines)
    return f"{named} lines name it, each of them one line"


def _lines(raw: bytes) -> list[bytes]:
    return [line for piece in raw.split(b"\n") for line in piece.split(b"\r")]


def _named(text: str) -> job_pb2.Job:
    # Never taken, whatever the text is.
    never = job_pb2.RetryPolicy(max_attempts=-1)
    return job_pb2.Job(custom=job_pb2.CustomSpec(type=text), queue=text, labels={text: text}, retry_policy=never)


@attack("words of errors", "40 calls that go wrong, searched for paths, names and traces")
def words_of_errors(target: Target) -> str:
    owner, found = target.owner, set()
    odd = (
        "../../etc/passwd",
        "{0.__class__}",
        "' OR 1=1 --",
        "%s%n",
        "\x00",
        "é" * 300,
        "job_",
        "\u202e",
        "a" * 5_000,
        "",
    )
    for text in odd:
        found |= {
            owner.code(owner.jobs.GetJob, job_service_pb2.GetJobRequest(job_id=text)),
            owner.code(owner.jobs.ListJobs, job_service_pb2.ListJobsRequest(page_token=text, order_by=text)),
            owner.code(owner.fleet.GetWorker, fleet_service_pb2.GetWorkerRequest(worker_id=text)),
            owner.code(
                owner.jobs.CreateJob,
                job_service_pb2.CreateJobRequest(job=_named(text)),
            ),
        }
    shown = expect(found, C.INVALID_ARGUMENT, C.NOT_FOUND, C.OK)
    longest = max(len(words.encode()) for _, words in found)
    if longest > 1_024 or json.dumps(sorted(words for _, words in found)).count("a" * 200):
        raise Fell(f"an error has {longest} bytes")
    return f"{shown}; the longest has {longest} bytes"
