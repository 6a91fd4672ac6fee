"""The command line's options for what jobs may use of the machine."""

from __future__ import annotations

from typing import Annotated

import typer

LIMITS = "What one job may use, with all processes that it starts (inline jobs apart)"
TABLES = "How large a table may be"

MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory, such as 8G. A job that takes more fails; one may for a moment. Default: no limit.",
        rich_help_panel=LIMITS,
    ),
]
MaxCpuTime = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="CPU time, of all cores together. Default: no limit.", rich_help_panel=LIMITS),
]
MaxOpenFiles = Annotated[
    int | None,
    typer.Option(metavar="N", help="Open files of each process. Default: the system's limit.", rich_help_panel=LIMITS),
]
MaxDisk = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What a job may write to disk, and what its folders may hold. Default: no limit.",
        rich_help_panel=LIMITS,
    ),
]
MaxProcesses = Annotated[
    int | None, typer.Option(metavar="N", help="Processes at once. Default: 1000.", rich_help_panel=LIMITS)
]
MaxTableBytes = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Bytes, once inflated. Default: 8G.", rich_help_panel=TABLES),
]
MaxTableRows = Annotated[
    int | None, typer.Option(metavar="N", help="Rows. Default: 200 million.", rich_help_panel=TABLES)
]
MaxTableColumns = Annotated[
    int | None, typer.Option(metavar="N", help="Columns. Default: 20,000.", rich_help_panel=TABLES)
]
MaxTableCells = Annotated[
    int | None, typer.Option(metavar="N", help="Rows times columns. Default: a billion.", rich_help_panel=TABLES)
]
Share = Annotated[
    str | None,
    typer.Option(
        "--share",
        metavar="tenant",
        help="Run jobs of everybody in the tenant, where the token allows it; default: its own user's only.",
    ),
]
