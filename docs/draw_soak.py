"""Put what `make soak` measured into docs/reliability.md: `python docs/draw_soak.py [SOAK.json ...]`.

Several files are the parts of one soak that ran one beside the other; without any, .towpath/soak.json is taken.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- drawn by docs/draw_soak.py -->", "<!-- end of what is drawn -->"


def table(parts: list[dict[str, Any]]) -> list[str]:
    """The rows of all parts as a table, with when and on what machine."""
    machines = ", ".join(dict.fromkeys(part["machine"] for part in parts))
    lines = [f"{machines}; ended {max(part['time'] for part in parts)}.", ""]
    lines += ["| promise | trials | violations | time |", "|---|--:|--:|--:|"]
    for part in parts:
        for row in part["rows"]:
            words = row["promise"] + (f"<br>{row['note']}" if row["note"] else "")
            trials = f"{row['trials']:,} {row['unit']}"
            lines.append(f"| {words} | {trials} | {row['violations']:,} | {duration(row['seconds'])} |")
    return lines


def duration(seconds: float) -> str:
    """Readable: 42 s, 34 min."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def main() -> None:
    """Replace the table in the page."""
    files = [Path(name) for name in sys.argv[1:]] or [ROOT / ".towpath" / "soak.json"]
    parts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *table(parts), "", END]) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
