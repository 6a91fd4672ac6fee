"""Fail when the protos broke a promise since the last release, or before there is one, since the last commit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUF = Path(sys.executable).parent / "buf"


def git(*arguments: str) -> bytes | None:
    """What git answers; None where it has no answer, as in a tree without history."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def candidates() -> list[str]:
    """Commits to compare with, the best first: the last release, main for a branch, the commit before this state."""
    tag = git("describe", "--tags", "--match", "v*", "--abbrev=0")
    changed = git("status", "--porcelain", "--", "protos")
    names = [tag.decode().strip()] if tag else []
    for main in ("origin/main", "main"):
        base = git("merge-base", "HEAD", main)
        if base and base != git("rev-parse", "HEAD"):
            names.append(base.decode().strip())
    return [*names, "HEAD" if changed else "HEAD~1"]


def main() -> int:
    """Compare with the first candidate that has protos."""
    for name in candidates():
        archive = git("archive", "--format=zip", name, "buf.yaml", "protos")
        if archive is None:
            continue
        with tempfile.TemporaryDirectory() as before:
            zipfile.ZipFile(BytesIO(archive)).extractall(before)
            print(f"buf breaking --against {name}")
            return subprocess.run([str(BUF), "breaking", "--against", before], cwd=ROOT, check=False).returncode
    print("No earlier protos to compare with")
    return 0


if __name__ == "__main__":
    sys.exit(main())
