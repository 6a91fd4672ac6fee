"""The demo from start to end: what it starts, it stops, whatever happens."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from towpath.cli import output, times
from towpath.cli.demo import flights, processes, report, steps
from towpath.cli.demo.processes import Child, ChildDied, Stopwatch
from towpath.cli.exit_codes import ExitCode
from towpath.cli.live import follower
from towpath.errors import TowpathError


def run(folder: Path | None, *, port: int, rows: int, keep: bool, as_json: bool) -> ExitCode:
    """Runs the demo and returns the exit code. A temporary folder is left only after a failure, for its logs."""
    home = folder.expanduser().absolute() if folder else Path(tempfile.mkdtemp(prefix="towpath-demo-"))
    children: list[Child] = []
    failed = False
    try:
        with _signals(), ExitStack() as stack:
            try:
                _run(home, stack, children, port=port, rows=rows, keep=keep, as_json=as_json)
            except (TowpathError, ChildDied, steps.DemoFailed, flights.NoFlights, OSError) as error:
                failed = True
                _explain(error, children)
                return ExitCode.JOB_FAILED if isinstance(error, TowpathError) else ExitCode.LOCAL
            finally:
                if children:
                    output.note("Stopping the worker and the scheduler ...")
        return ExitCode.OK
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    finally:
        if folder is None and not failed:
            shutil.rmtree(home, ignore_errors=True)
        elif failed:
            output.note(f"All files and logs are in {home}.")


def _run(
    home: Path, stack: ExitStack, children: list[Child], *, port: int, rows: int, keep: bool, as_json: bool
) -> None:
    from towpath import Client, settings

    say = output.note if as_json else output.line
    watch = Stopwatch()
    logs, config, data, state = (home / name for name in ("logs", "config", "data", "worker"))
    for made in (logs, config, data, state):
        made.mkdir(parents=True, exist_ok=True)
    environment = processes.environment(config)
    token_file, worker_file, table = config / "token", config / "worker.toml", data / "flights.csv"
    worker_file.touch()
    address = f"127.0.0.1:{port or steps.free_port()}"

    say(f"Towpath works in {home}")
    written = flights.write(table, rows)
    say(f"Flights: {written.row_count:,} rows written in {times.span(watch.lap('write the table'))}")

    store = f"sqlite:///{(home / 'towpath.db').as_posix()}"
    arguments = ["towpath_server", "--store", store, "--listen", address, "--config-dir", str(config)]
    scheduler = Child("scheduler", arguments, logs / "scheduler.log", environment)
    children.append(stack.enter_context(scheduler))
    steps.await_serving(address, scheduler)
    say(f"Scheduler: serves on {address} after {times.span(watch.lap('start the scheduler'))}")

    client = stack.enter_context(Client(address, settings.read_token(token_file)))
    arguments = ["towpath_worker", "--server", address, "--token-file", str(token_file)]
    arguments += ["--data-dir", str(data), "--state-dir", str(state), "--slots", "1", "--config", str(worker_file)]
    worker = Child("worker", arguments, logs / "worker.log", environment)
    children.append(stack.enter_context(worker))
    steps.await_worker(client, worker)
    say(f"Worker: registered after {times.span(watch.lap('start the worker'))}")

    say(f"Training xgboost on them: will a flight arrive more than {flights.LATE_MINUTES} minutes late?")
    with follower(quiet=as_json, to_stdout=not as_json) as shown:
        trained = steps.train(client, table, shown.update)
    watch.lap("train")
    predicted = steps.predict(client, trained.model_id, written.asked)
    watch.lap("predict")
    models = list(client.models())
    watch.lap("list the models")

    finished = report.Report(
        address, token_file, trained, steps.compared(written.asked, predicted.rows), models, watch.steps
    )
    finished.document() if as_json else finished.show()
    if keep:
        _stay(children)


def _stay(children: list[Child]) -> None:
    output.line("Scheduler and worker keep running. Ctrl-C stops both.")
    try:
        while True:
            for child in children:
                child.check(wait=0.5)
    except KeyboardInterrupt:
        output.line()


def _explain(error: Exception, children: list[Child]) -> None:
    from towpath.cli.failures import describe

    words = describe(error) if isinstance(error, TowpathError | OSError) else error
    output.note(f"towpath: the demo failed. {words}")
    for child in children:
        if lines := child.tail():
            output.note(f"The last lines of the {child.name}'s log, {child.log}:")
            for line in lines:
                output.note(f"  {line}")


@contextmanager
def _signals() -> Iterator[None]:
    """A request to end stops the children too, as Ctrl-C does."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), _interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
