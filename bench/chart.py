"""The chart of a report: plain SVG, horizontal bars on a logarithmic scale, readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from bench.figures import Row
from bench.report import Report
from bench.targets import number

WIDTH, LABELS, FIGURES = 980, 440, 90
LINE, BAR, HEAD, GAP, FOOT = 24, 15, 34, 22, 30

RATES = "No-op jobs a second, from the first submit to the last job done (more is better)"
TIMES = "Idle latency, from submit to the result in hand, p50 (less is better)"
KINDS = {"ours": "Towpath", "toy": "a toy of its design, without rules or accounts", "peer": "peers"}

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 15px; }
.small { font-size: 11px; fill: #59636e; }
.grid { stroke: #d1d9e0; }
.ours { fill: #0969da; }
.toy { fill: #9a6700; }
.peer { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .small { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .ours { fill: #4493f8; }
  .toy { fill: #d29922; }
  .peer { fill: #656c76; }
}
"""


def draw(report: Report) -> str:
    """The whole picture."""
    rates = [row for row in _drawn(report) if row.measure.unit == "jobs/s"]
    times = [row for row in _drawn(report) if row.key.endswith("p50")]
    rates.sort(key=lambda row: -row.median)
    times.sort(key=lambda row: row.median)
    parts, top = [_legend()], FOOT
    for title, rows in ((RATES, rates), (TIMES, times)):
        if rows:
            parts.append(_bars(title, rows, top))
            top += HEAD + LINE * len(rows) + FOOT + GAP
    words = f"Medians, logarithmic scale. {report.heading()}"
    parts.append(f'<text class="small" x="8" y="{top}">{escape(words)}</text>')
    size = f'width="{WIDTH}" height="{top + 14}" viewBox="0 0 {WIDTH} {top + 14}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(RATES)}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


def _drawn(report: Report) -> list[Row]:
    kinds = ("batched.", "single.", "children.", "map.", "idle.", "toy.", "peer.")
    return [row for row in report.rows if row.key.startswith(kinds)]


def _legend() -> str:
    parts, x = [], 8.0
    for kind, words in KINDS.items():
        parts.append(f'<rect class="{kind}" x="{x}" y="6" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 18}" y="17">{words}</text>')
        x += 44 + 6.8 * len(words)
    return "\n".join(parts)


def _bars(title: str, rows: Sequence[Row], top: int) -> str:
    unit = rows[0].measure.unit
    low = 10.0 ** math.floor(math.log10(min(row.median for row in rows)))
    high = max(low * 10, 10.0 ** math.ceil(math.log10(max(row.median for row in rows))))
    room = WIDTH - LABELS - FIGURES

    def at(value: float) -> float:
        return LABELS + room * math.log(value / low) / math.log(high / low)

    bottom = top + HEAD + LINE * len(rows)
    parts = [f'<text class="title" x="8" y="{top + 16}">{escape(title)}</text>']
    decade = low
    while decade <= high * 1.01:
        x = at(decade)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top + HEAD - 4}" y2="{bottom}"/>')
        parts.append(f'<text class="small" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{number(decade)}</text>')
        decade *= 10
    for place, row in enumerate(rows):
        y = top + HEAD + LINE * place
        kind = row.key.split(".")[0]
        kind = kind if kind in ("toy", "peer") else "ours"
        name = row.measure.what if kind != "ours" else f"Towpath, {row.measure.what}"
        name = name.removesuffix(" p50").removesuffix("idle latency").rstrip(",: ")
        width = max(1.0, at(row.median) - LABELS)
        parts.append(f'<text x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="{kind}" x="{LABELS}" y="{y + 1}" width="{width:.1f}" height="{BAR}" rx="2"/>')
        parts.append(f'<text x="{LABELS + width + 6:.1f}" y="{y + 13}">{number(row.median)} {unit}</text>')
    return "\n".join(parts)
