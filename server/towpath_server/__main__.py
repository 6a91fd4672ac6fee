"""`towpath-server`: the console script, which says what to install where the client came alone."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the scheduler."""
    try:
        from towpath_server import command

        command.main()
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("towpath"):
            raise
        sys.exit(f"towpath-server: {missing.name} is not installed. Install it all: pip install 'towpath[server]'")


if __name__ == "__main__":
    main()
