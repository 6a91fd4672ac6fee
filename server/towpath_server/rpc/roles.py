"""Who may call what: the one table of all RPCs. What is not in it is refused to everybody."""

from __future__ import annotations

from collections.abc import Mapping

from towpath_server.core.records import Role

# What needs no token.
OPEN = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
    }
)

_A, _O, _S, _V = Role.ADMIN, Role.OPERATOR, Role.SUBMITTER, Role.VIEWER
_W, _E = Role.WORKER, Role.ENROLLMENT

# Admin, Operator, Submitter, Viewer, Worker, Enrollment.
# fmt: off
_TABLE: Mapping[str, set[Role]] = {
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {_A, _O, _S, _V, _W},

    "/towpath.v1.JobService/CreateJob":              {_A,     _S            },
    "/towpath.v1.JobService/BatchCreateJobs":        {_A,     _S            },
    "/towpath.v1.JobService/GetJob":                 {_A, _O, _S, _V        },
    "/towpath.v1.JobService/ListJobs":               {_A, _O, _S, _V        },
    "/towpath.v1.JobService/UpdateJob":              {_A, _O, _S            },
    "/towpath.v1.JobService/DeleteJob":              {_A, _O, _S            },
    "/towpath.v1.JobService/CancelJob":              {_A, _O, _S            },
    "/towpath.v1.JobService/BatchCancelJobs":        {_A, _O, _S            },
    "/towpath.v1.JobService/PauseJob":               {_A, _O, _S            },
    "/towpath.v1.JobService/ResumeJob":              {_A, _O, _S            },
    "/towpath.v1.JobService/RetryJob":               {_A, _O, _S            },
    "/towpath.v1.JobService/WaitJob":                {_A, _O, _S, _V        },
    "/towpath.v1.JobService/WaitJobs":               {_A, _O, _S, _V        },
    "/towpath.v1.JobService/WatchJob":               {_A, _O, _S, _V        },
    "/towpath.v1.JobService/WatchJobs":              {_A, _O, _S, _V        },
    "/towpath.v1.JobService/StreamJobLogs":          {_A, _O, _S, _V        },
    "/towpath.v1.JobService/ListJobAttempts":        {_A, _O, _S, _V        },
    "/towpath.v1.JobService/ExplainJob":             {_A, _O, _S, _V        },
    "/towpath.v1.JobService/GetJobStats":            {_A, _O, _S, _V        },

    "/towpath.v1.WorkerService/RegisterWorker":      {_A,             _W    },
    "/towpath.v1.WorkerService/LeaseJobs":           {_A,             _W    },
    "/towpath.v1.WorkerService/ReportJobs":          {_A,             _W    },
    "/towpath.v1.WorkerService/SyncModels":          {_A,             _W    },
    "/towpath.v1.WorkerService/DeregisterWorker":    {_A,             _W    },

    "/towpath.v1.FleetService/ListWorkers":          {_A, _O, _S, _V        },
    "/towpath.v1.FleetService/GetWorker":            {_A, _O, _S, _V        },
    "/towpath.v1.FleetService/DrainWorker":          {_A, _O                },
    "/towpath.v1.FleetService/RemoveWorker":         {_A, _O                },

    "/towpath.v1.QueueService/ListQueues":           {_A, _O, _S, _V        },
    "/towpath.v1.QueueService/GetQueue":             {_A, _O, _S, _V        },
    "/towpath.v1.QueueService/PauseQueue":           {_A, _O                },
    "/towpath.v1.QueueService/ResumeQueue":          {_A, _O                },
    "/towpath.v1.QueueService/PeekQueue":            {_A, _O, _S, _V        },

    "/towpath.v1.AuthService/CreateToken":           {_A                    },
    "/towpath.v1.AuthService/ListTokens":            {_A                    },
    "/towpath.v1.AuthService/RevokeToken":           {_A                    },
    "/towpath.v1.AuthService/RotateToken":           {_A, _O, _S, _V, _W    },
    "/towpath.v1.AuthService/CreateEnrollmentToken": {_A, _O, _S            },
    "/towpath.v1.AuthService/EnrollWorker":          {                    _E},
    "/towpath.v1.AuthService/WhoAmI":                {_A, _O, _S, _V, _W    },

    "/towpath.v1.ModelService/ListModels":           {_A, _O, _S, _V, _W    },
    "/towpath.v1.ModelService/GetModel":             {_A, _O, _S, _V, _W    },

    "/towpath.v1.AdminService/GetServerInfo":        {_A, _O, _S, _V, _W    },
    "/towpath.v1.AdminService/GetStats":             {_A, _O, _S, _V        },
    "/towpath.v1.AdminService/CleanupJobs":          {_A, _O                },
    "/towpath.v1.AdminService/ListAuditEvents":      {_A                    },
    "/towpath.v1.AdminService/ListQuotas":           {_A, _O                },
    "/towpath.v1.AdminService/SetQuota":             {_A                    },
    "/towpath.v1.AdminService/DeleteQuota":          {_A                    },
}
# fmt: on

ROLES: Mapping[str, frozenset[Role]] = {method: frozenset(roles) for method, roles in _TABLE.items()}
