"""When to try again, and out of which budget. Failures of the code and deliveries lost to dead workers count apart."""

from __future__ import annotations

from towpath_server.core.job import Failure, FailureCause, Job, RetryPolicy


def backoff(policy: RetryPolicy, attempts: int, random: float) -> int:
    """Microseconds to wait after `attempts` failed attempts; `random` is in [0, 1).

    Exponential with jitter: at 1 anything up to the whole wait ("full jitter", AWS Architecture Blog, 2015), at 0 none.
    """
    try:
        whole = min(policy.initial_backoff * policy.multiplier ** max(attempts - 1, 0), policy.max_backoff)
    except OverflowError:
        whole = policy.max_backoff if policy.initial_backoff else 0
    return int(whole * (1 - policy.jitter + policy.jitter * random))


def may_retry(job: Job, failure: Failure) -> bool:
    """Whether a job whose attempts so far are counted in `attempt_count` gets another one after this failure."""
    policy = job.definition.retry
    hopeless = failure.cause is FailureCause.INVALID_INPUT or failure.type in policy.non_retryable_types
    return failure.retryable and not hopeless and job.attempt_count < policy.max_attempts


def may_redeliver(job: Job) -> bool:
    """Whether a job whose losses so far are counted in `lost_count` is given to another worker."""
    return job.lost_count <= job.definition.max_lost
