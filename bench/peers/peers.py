"""Which peers there are. Nothing of theirs is imported here: each runs in an environment of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Measure, Scale
from bench.programs import HOME

REDIS, POSTGRES, NOTHING = "redis", "postgres", ""


@dataclass(frozen=True, slots=True)
class Spec:
    """A peer as its users run it."""

    name: str
    #: What is installed; the first is the peer itself.
    requires: tuple[str, ...]
    service: str
    #: How it is run.
    how: str
    #: How many jobs it takes at once: a real batch call, concurrent calls of one client, or neither.
    many: str = ""
    #: The module of bench.peers that drives it, and the environment that it is installed in, where not its name.
    module: str = ""
    quick: bool = False
    rounds: int = 1_000
    limit: float = 90.0
    #: It says how many transactions its PostgreSQL had.
    metered: bool = False

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return HOME / "venvs" / self.home / "bin" / "python"

    def command(self, scale: Scale) -> Sequence[str]:
        """What measures it once."""
        words = [self.home, self.name, self.many, str(scale.seconds), "quick" if scale.quick else "full"]
        return [str(self.python), "-m", "bench.peers.driver", *words]

    @property
    def home(self) -> str:
        """The name of its environment and of its module."""
        return self.module or self.name

    def measures(self) -> tuple[Measure, ...]:
        """What is measured of it."""
        rates = [("single", "one by one"), *([(self.many, MANY[self.many])] if self.many else [])]
        times = [("p50", "idle latency p50"), ("p99", "idle latency p99")]
        took = METERED if self.metered else ()
        return (
            *(Measure(f"peer.{self.name}.{key}", f"{self.name}, {words}", "jobs/s") for key, words in rates),
            *(Measure(f"peer.{self.name}.{key}", f"{self.name}, {words}", "ms") for key, words in times),
            *(
                Measure(f"peer.{self.name}.{key}.{end}", f"{self.name}, {words}: {what}", unit)
                for key, words in rates
                for end, what, unit in took
            ),
        )


BATCHED, PIPELINED = "batched", "pipelined"
METERED = (("postgres", "PostgreSQL's CPU a job", "us"), ("commits", "transactions that write", "1/s"))
MANY = {BATCHED: "batches", PIPELINED: "100 submits at once"}


PSYCOPG = "psycopg[binary,pool]"
SPECS = (
    Spec("huey", ("huey", "redis"), REDIS, "redis, 4 threads", quick=True),
    Spec("dramatiq", ("dramatiq[redis]",), REDIS, "redis, 8 threads", quick=True),
    Spec("saq", ("saq[redis]", "hiredis", "typing-extensions"), REDIS, "redis, 10 at once", PIPELINED, quick=True),
    Spec("arq", ("arq",), REDIS, "redis, 100 at once, polls each 10 ms", PIPELINED),
    Spec("taskiq", ("taskiq", "taskiq-redis"), REDIS, "redis streams, 100 at once", PIPELINED),
    Spec("celery", ("celery[redis]",), REDIS, "redis, 2 prefork children", quick=True),
    Spec("rq", ("rq",), REDIS, "redis, SimpleWorker", BATCHED),
    Spec("pgqueuer", ("pgqueuer", "asyncpg"), POSTGRES, "PostgreSQL, dequeues 100", BATCHED, quick=True, metered=True),
    Spec("procrastinate", ("procrastinate", PSYCOPG), POSTGRES, "PostgreSQL, 30 at once", BATCHED, metered=True),
    Spec("chancy", ("chancy", PSYCOPG), POSTGRES, "PostgreSQL, 30 at once, polls eagerly", BATCHED),
    Spec("huey-sqlite", ("huey",), NOTHING, "SQLite without fsync, 4 threads", module="huey"),
    Spec("dask", ("dask", "distributed"), NOTHING, "in memory, one worker thread", BATCHED),
    Spec("ray", ("ray",), NOTHING, "in memory, one core"),
)
