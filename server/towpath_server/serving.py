"""A scheduler as a program of its own: its loop, its signals, what it says, and what keeps it quick."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from towpath_server import app, log
from towpath_server.app import StartRefused
from towpath_server.rpc import rules
from towpath_server.settings import Settings, config_folder, is_loopback
from towpath_server.stages import Stages
from towpath_server.stalls import StallWatch

__all__ = ["StartRefused", "run", "serve"]

# Objects, and how often one generation is looked at before the next. The oldest has its turn about every 10 million
# objects that outlive a look: a call of ours leaves no cycles, and those that grpc leaves die young.
COLLECTOR = (1_000, 10, 1_000)
# Seconds after the start until what a mistake will need is imported.
LATER = 1.0


def run(settings: Settings) -> None:
    """Serve until told to stop. Raises what `app.start` raises."""
    with asyncio.Runner(loop_factory=app.loop_factory()) as runner, _stages(settings.profile_stages):
        runner.run(serve(settings))


@contextmanager
def _stages(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    stages = Stages()
    stages.install()
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, lambda *_: print(stages.table(), file=sys.stderr, flush=True))
    try:
        yield
    finally:
        print(stages.table(), file=sys.stderr, flush=True)


async def serve(settings: Settings) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    _on_signals(stop)
    running = await app.start(settings)
    _greet(running)
    _spare_the_collector()
    over = threading.Event()
    warm = threading.Thread(target=_warm_up, args=(over,), name="towpath-warm-up", daemon=True)
    warm.start()
    watch = StallWatch(running.server.serving)
    watch.start()
    await stop.wait()
    log.say("towpath-server is stopping: what was acknowledged is on disk.")
    await running.stop()
    watch.stop()
    # Cut off inside a library's own code by the end of the process, it would take the process down with it.
    over.set()
    await asyncio.to_thread(warm.join)


def _spare_the_collector() -> None:
    """Look at what is young only: with 10,000 parked polls a look at all that lives takes half a second."""
    # What is there now stays.
    gc.freeze()
    gc.set_threshold(*COLLECTOR)


def _warm_up(over: threading.Event) -> None:
    """Have ready what the first calls need, then what the first mistakes will need."""
    rules.prepare()
    if over.wait(LATER):
        return
    rules.validator()
    log.ready()


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stop.is_set():
            sys.exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, told)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(told))


def _greet(running: app.App) -> None:
    address = running.address
    lines = [f"towpath-server listens on {address}", f"  store   {running.settings.shown_store}"]
    if running.replica:
        lines.append(f"  this    is scheduler {running.replica} of those on this store")
    if running.secret is not None:
        lines.append(f"  token   written to {running.token_file} (the first admin's; shown nowhere else)")
    elif running.token_file.exists():
        lines.append(f"  token   in {running.token_file}")
    if running.settings.config_dir != config_folder():
        lines.append(f"  first   export TOWPATH_TOKEN_FILE={running.token_file}")
    how = _how_to_connect(running.settings)
    lines.append(f"  next    towpath-worker --server {address}{how} --data-dir .")
    lines.append(f"          towpath --server {address}{how} stats")
    log.say("\n".join(lines))


def _how_to_connect(settings: Settings) -> str:
    """The options without which clients would be refused, or refuse."""
    if settings.tls_cert is not None:
        # Where tls-init has put it.
        beside = settings.tls_cert.with_name("ca.pem")
        ca = f" --tls-ca {beside if beside.is_file() else 'CA.pem'}"
        return f"{ca} --tls-cert YOURS.pem --tls-key YOURS-key.pem" if settings.tls_client_ca is not None else ca
    return "" if is_loopback(settings.host) else " --insecure"
