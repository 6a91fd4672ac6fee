"""The client: submit jobs, train, predict, map."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self, Unpack

from towpath import requests
from towpath._async.batches import create_all, create_each
from towpath._async.connection import AsyncConnection
from towpath._async.fleet import AsyncFleetCalls
from towpath._async.handle import AsyncJobHandle
from towpath._async.jobs import AsyncJobCalls
from towpath._async.mapping import map_jobs
from towpath._async.quotas import AsyncQuotaCalls
from towpath._async.tokens import AsyncTokenCalls
from towpath.coalescing import AsyncCoalescer
from towpath.enums import TaskType
from towpath.options import JobOptions, SubmitOptions
from towpath.tables import TableLike
from towpath.v1 import job_pb2


class AsyncClient(AsyncJobCalls, AsyncFleetCalls, AsyncTokenCalls, AsyncQuotaCalls):
    """Submits jobs to a scheduler and looks after them.

    `address` is `host:port` (default TOWPATH_ADDRESS, else 127.0.0.1:7070), or those of several replicas of one
    scheduler, as in `a:7070,b:7070`: it talks to one of them and goes on at another when that one fails. `token` by
    default TOWPATH_TOKEN, the file that TOWPATH_TOKEN_FILE names, or the one that a scheduler on this machine wrote.
    Any other machine is reached by TLS, with the system's certificates or `tls_ca`, unless `insecure` allows plain
    text; `tls_cert` and `tls_key` are for a scheduler that asks its clients for certificates. All three are PEM files,
    by default those in TOWPATH_TLS_CA, TOWPATH_TLS_CERT and TOWPATH_TLS_KEY; any of them means TLS. `timeout` in
    seconds bounds each call with its retries; waiting for jobs has timeouts of its own.
    """

    def __init__(
        self,
        address: str | None = None,
        token: str | None = None,
        *,
        insecure: bool = False,
        tls_ca: str | Path | None = None,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._connection = AsyncConnection(
            address,
            token,
            insecure=insecure,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            timeout=timeout,
        )
        self._coalescer = AsyncCoalescer(partial(create_each, self._connection))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    @property
    def address(self) -> str:
        """Where the scheduler is: `host:port`, or several with commas between."""
        return self._connection.address

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channel; calls under way end."""
        await self._connection.close()

    async def submit(
        self, job_type: str, params: Mapping[str, Any] | None = None, /, **options: Unpack[SubmitOptions]
    ) -> AsyncJobHandle:
        """Creates a job of any type; acknowledged once it is on the scheduler's disk. See SubmitOptions.

        Submits that run at the same time travel together, as one call.
        """
        return await self._create(requests.job_of(job_type, params), options)

    async def train(
        self,
        data: TableLike,
        target: str,
        *,
        model_type: str = "xgboost",
        task_type: str | TaskType | None = None,
        features: Sequence[str] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        test_size: float | None = None,
        seed: int | None = None,
        name: str = "",
        early_stopping_rounds: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle:
        """Trains a model to predict the column `target`; the handle's result is a TrainResult.

        `data` is a path on the worker's machine, or a small DataFrame, pyarrow.Table or list of dicts. `features` are
        the columns to learn from (default: all others), `test_size` the share of rows kept for the metrics (0.2).
        """
        job = requests.train(
            data,
            target,
            model_type=model_type,
            task_type=task_type,
            features=features,
            hyperparameters=hyperparameters,
            test_size=test_size,
            seed=seed,
            name=name,
            early_stopping_rounds=early_stopping_rounds,
        )
        return await self._create(job, options)

    async def predict(
        self,
        model: str,
        data: TableLike,
        *,
        probabilities: bool = False,
        output_path: str | PurePath = "",
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle:
        """Predicts with a model, by id, `name` or `name@version`; the handle's result is a Prediction.

        With `output_path` the predictions go to that .csv or .parquet file under the worker's data folders.
        """
        job = requests.predict(model, data, probabilities=probabilities, output_path=str(output_path))
        return await self._create(job, options)

    async def list_models(
        self,
        *,
        name_prefix: str = "",
        model_type: str = "",
        task_type: str | TaskType | None = None,
        limit: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle:
        """A job that asks a worker for its models; its result is a ModelList. `models` reads the catalogue instead."""
        job = requests.list_models(name_prefix=name_prefix, model_type=model_type, task_type=task_type, limit=limit)
        return await self._create(job, options)

    async def submit_many(
        self, job_type: str, params: Iterable[Mapping[str, Any]], /, **options: Unpack[JobOptions]
    ) -> list[AsyncJobHandle]:
        """Creates a job for each of the params, in as few calls as they fit into; handles in the same order.

        What does not fit one call is created by the next one: where that is refused, the jobs before are there.
        """
        creates = list(requests.series(job_type, params, options))
        jobs = [job async for batch in create_all(self._connection, creates) for job in batch]
        return [
            AsyncJobHandle(self._connection, requests.with_spec(job, create.job))
            for job, create in zip(jobs, creates, strict=True)
        ]

    def map(
        self,
        job_type: str,
        params: Iterable[Mapping[str, Any]],
        *,
        window: int = 256,
        ordered: bool = True,
        return_exceptions: bool = False,
        **options: Unpack[JobOptions],
    ) -> AsyncIterator[Any]:
        """The results of a job for each of the params, of which at most `window` are under way at once.

        `params` may be endless: it is read as results are taken. In the order of the params, or with `ordered=False` as
        they come. A job that fails raises JobFailed here, or comes as that exception with `return_exceptions`. Jobs
        still under way when the iteration stops are cancelled.
        """
        return map_jobs(
            self._connection,
            job_type,
            params,
            options,
            window=window,
            ordered=ordered,
            return_exceptions=return_exceptions,
        )

    async def _create(self, job: job_pb2.Job, options: SubmitOptions) -> AsyncJobHandle:
        created = await self._coalescer.create(requests.create(job, options))
        return AsyncJobHandle(self._connection, created)
