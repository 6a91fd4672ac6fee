"""`towpath-worker`: the console script, which says what to install where the client came alone."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the worker."""
    joins = sys.argv[1:2] == ["join"]
    try:
        if joins:
            from towpath_worker.join_command import app
        else:
            from towpath_worker.command import app
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("towpath"):
            raise
        sys.exit(f"towpath-worker: {missing.name} is not installed. Install the worker: pip install 'towpath[worker]'")
    if joins:
        del sys.argv[1]
    app(prog_name="towpath-worker join" if joins else "towpath-worker")


if __name__ == "__main__":
    main()
