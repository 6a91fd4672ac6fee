"""Workers, sessions, leases and orders."""

from __future__ import annotations

from collections.abc import Iterable

from towpath.v1 import worker_pb2, worker_service_pb2
from towpath_server.core.job import Job
from towpath_server.core.records import Gpu, Machine, Share
from towpath_server.rpc.convert import ids, wire
from towpath_server.rpc.convert.jobs import MAX_JOB_BYTES, job_to_bytes
from towpath_server.rpc.convert.models import model_record
from towpath_server.rpc.convert.reports import held_lease
from towpath_server.rpc.convert.times import duration, timestamp
from towpath_server.scheduler.messages import Directive, Load, Registered, Registration, WorkerView


def registration(message: worker_service_pb2.RegisterWorkerRequest) -> Registration:
    """A worker that begins a session."""
    return Registration(
        worker_id=ids.read(ids.WORKER, message.worker_id) if message.worker_id else None,
        name=message.name,
        slots=message.slots,
        job_types=tuple(message.job_types),
        labels=dict(message.labels),
        machine=_machine(message.machine),
        version=message.version,
        models=tuple(model_record(model) for model in message.models),
        held=tuple(held_lease(lease) for lease in message.held_leases),
        share=Share(message.share or Share.USER),
    )


def registered_to_proto(registered: Registered) -> worker_service_pb2.RegisterWorkerResponse:
    """The session."""
    return worker_service_pb2.RegisterWorkerResponse(
        worker_id=ids.show(ids.WORKER, registered.worker_id),
        session_id=registered.session_id,
        heartbeat_interval=duration(registered.heartbeat_interval),
        lease_ttl=duration(registered.lease_ttl),
        poll_timeout=duration(registered.poll_timeout),
    )


def leases_to_bytes(jobs: Iterable[Job]) -> bytes:
    """A LeaseJobsResponse, serialized: the rights to run jobs that were just leased.

    Those at the end that do not fit one message are left out.
    """
    leases, size = list[bytes](), 0
    for job in jobs:
        lease = _lease_bytes(job)
        size += len(lease)
        if size > MAX_JOB_BYTES and leases:
            break
        leases.append(lease)
    return wire.repeated(_LEASES, leases)


def _lease_bytes(job: Job) -> bytes:
    token = (job.lease.token if job.lease is not None else job.last_token).encode()
    return b"".join(
        (
            wire.nested(_LEASED_JOB, job_to_bytes(job)),
            wire.nested(_LEASE_TOKEN, token),
            _ATTEMPT,
            wire.varint(job.attempt),
        )
    )


_LEASE = worker_service_pb2.Lease.DESCRIPTOR.fields_by_name
_LEASED_JOB, _LEASE_TOKEN = wire.tag(_LEASE["job"].number), wire.tag(_LEASE["lease_token"].number)
_ATTEMPT = wire.tag(_LEASE["attempt"].number, wire.VARINT)
_LEASES = wire.tag(worker_service_pb2.LeaseJobsResponse.DESCRIPTOR.fields_by_name["leases"].number)


def directive_to_proto(directive: Directive) -> worker_service_pb2.Directive:
    """An order."""
    return worker_service_pb2.Directive(
        type=worker_service_pb2.DirectiveType.ValueType(directive.type),
        job_id=ids.show(ids.JOB, directive.job_id),
        lease_token=directive.token,
        reason=directive.reason,
        grace=duration(directive.grace or None),
    )


def worker_to_proto(view: WorkerView) -> worker_pb2.Worker:
    """A worker as people see it."""
    worker = view.worker
    return worker_pb2.Worker(
        worker_id=ids.show(ids.WORKER, worker.worker_id),
        name=worker.name,
        tenant=worker.tenant,
        user=worker.user,
        state=worker_pb2.WorkerState.ValueType(view.state),
        slots=worker.slots,
        running_count=view.running,
        job_types=worker.job_types,
        labels=worker.labels,
        machine=_machine_to_proto(worker.machine),
        load=_load_to_proto(view.load) if view.heartbeat_time is not None else None,
        create_time=timestamp(worker.create_time),
        connect_time=timestamp(worker.connect_time),
        heartbeat_time=timestamp(view.heartbeat_time),
        model_count=view.models,
        version=worker.version,
        share=worker_pb2.WorkerShare.ValueType(worker.share),
    )


def _machine(message: worker_pb2.Machine) -> Machine:
    return Machine(
        cpu_count=max(message.cpu_count, 0),
        memory_mb=max(message.memory_mb, 0),
        gpus=tuple(Gpu(gpu.name, max(gpu.memory_mb, 0)) for gpu in message.gpus),
        hostname=message.hostname,
        platform=message.platform,
        python_version=message.python_version,
    )


def _machine_to_proto(machine: Machine) -> worker_pb2.Machine:
    return worker_pb2.Machine(
        cpu_count=machine.cpu_count,
        memory_mb=machine.memory_mb,
        gpus=[worker_pb2.Gpu(name=gpu.name, memory_mb=gpu.memory_mb) for gpu in machine.gpus],
        hostname=machine.hostname,
        platform=machine.platform,
        python_version=machine.python_version,
    )


def _load_to_proto(load: Load) -> worker_pb2.MachineLoad:
    return worker_pb2.MachineLoad(
        cpu_percent=load.cpu_percent, memory_used_mb=load.memory_used_mb, free_slots=load.free_slots
    )
