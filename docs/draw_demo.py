"""Draw docs/demo.svg from a real run of `towpath demo` on a terminal of its own: `make picture`."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from html import unescape
from io import StringIO
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = Path(__file__).with_name("demo.svg")
TOWPATH = Path(sys.executable).with_name("towpath")
WIDTH, HEIGHT = 110, 60
CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07")

INDENTED = re.compile(
    r'x="(?P<x>[\d.]+)"(?P<y> y="[\d.]+" )textLength="(?P<length>[\d.]+)"(?P<clip> clip-path="[^"]+")>'
    r"(?P<spaces>(?:&#160;)+)(?P<shown>[^<\n]+)<"
)


class Screen:
    """As much of a terminal as a progress bar needs: cells with their style, and a cursor."""

    def __init__(self) -> None:
        self._cells: list[list[tuple[str, str]]] = [[]]
        self._row = self._column = 0
        self._style = ""

    def feed(self, text: str) -> None:
        """Takes what a program wrote."""
        position = 0
        while position < len(text):
            if found := CONTROL.match(text, position):
                self._control(found[1] or "", found[2] or "")
                position = found.end()
            else:
                self._put(text[position])
                position += 1

    def _put(self, character: str) -> None:
        if character == "\n":
            self._row += 1
            while len(self._cells) <= self._row:
                self._cells.append([])
        elif character == "\r":
            self._column = 0
        elif character >= " ":
            line = self._cells[self._row]
            line += [(" ", "")] * (self._column + 1 - len(line))
            line[self._column] = (character, self._style)
            self._column += 1

    def _control(self, numbers: str, verb: str) -> None:
        count = int(numbers) if numbers.isdigit() else 1
        if verb == "m":
            self._style = "" if numbers in ("", "0") else f"{self._style}\x1b[{numbers}m"
        elif verb == "A":
            self._row = max(0, self._row - count)
        elif verb == "B":
            self._row += count
        elif verb == "K":
            line = self._cells[self._row]
            del line[0 if numbers == "2" else self._column :]

    def text(self) -> Text:
        """What a person sees, with its colours."""
        lines = []
        for line in self._cells:
            runs = groupby(line, key=itemgetter(1))
            lines.append("".join(f"{style}{''.join(cell[0] for cell in run)}\x1b[0m" for style, run in runs))
        return Text.from_ansi("\n".join(lines).rstrip())


def watch(words: list[str]) -> str:
    """Run a program on a terminal and return all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": str(HEIGHT)}
    written = b""
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        # The terminal of a program that ended gives an error in place of an end.
        try:
            while piece := os.read(ours, 65536):
                written += piece
        except OSError:
            pass
        if process.wait():
            sys.exit(written.decode(errors="replace"))
    return written.decode()


def alone(picture: str) -> str:
    """The picture without fonts from elsewhere, and without leading spaces, which some viewers drop."""

    def shifted(found: re.Match[str]) -> str:
        spaces, length = found["spaces"].count(";"), float(found["length"])
        width = length / (spaces + len(unescape(found["shown"])))
        x, length = float(found["x"]) + spaces * width, length - spaces * width
        return f'x="{x:g}"{found["y"]}textLength="{length:g}"{found["clip"]}>{found["shown"]}<'

    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    return INDENTED.sub(shifted, picture)


def main() -> None:
    """Run the demo and draw how it ended."""
    screen = Screen()
    written = watch([str(TOWPATH), "demo", "--no-keep"])
    screen.feed("$ make run\r\n" + written.replace(f"{ROOT}{os.sep}", ""))
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen.text())
    PICTURE.write_text(alone(console.export_svg(title="towpath")), encoding="utf-8")


if __name__ == "__main__":
    main()
