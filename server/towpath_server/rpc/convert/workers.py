"""Workers, sessions, leases and orders."""

from __future__ import annotations

from towpath.v1 import worker_pb2, worker_service_pb2
from towpath_server.core.job import Job
from towpath_server.core.records import Gpu, Machine
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.jobs import job_to_proto
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


def lease_to_proto(job: Job) -> worker_service_pb2.Lease:
    """The right to run a job that was just leased."""
    token = job.lease.token if job.lease is not None else job.last_token
    return worker_service_pb2.Lease(job=job_to_proto(job), lease_token=token, attempt=job.attempt)


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
