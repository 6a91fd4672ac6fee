"""The blocking client."""

from __future__ import annotations

from typing import Unpack

from towpath._sync import client
from towpath.executor import JobExecutor
from towpath.options import JobOptions


class Client(client.Client):
    __doc__ = client.Client.__doc__

    def get_executor(self, job_type: str | None = None, /, **options: Unpack[JobOptions]) -> JobExecutor:
        """A `concurrent.futures.Executor` whose work are jobs; `options` hold for each of them.

        `executor.submit("resize", width=100)` names a job type; `executor.submit(resize, 100)` takes a function
        decorated with `@handler`; with a `job_type` given here, `executor.submit(None, width=100)` does as well.
        """
        return JobExecutor(self._connection.sibling(), job_type, options)
