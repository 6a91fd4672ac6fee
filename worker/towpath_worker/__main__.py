"""`towpath-worker`: the console script, which says what to install where the client came alone."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the worker."""
    try:
        from towpath_worker import command
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("towpath"):
            raise
        sys.exit(f"towpath-worker: {missing.name} is not installed. Install the worker: pip install 'towpath[worker]'")
    command.main()


if __name__ == "__main__":
    main()
