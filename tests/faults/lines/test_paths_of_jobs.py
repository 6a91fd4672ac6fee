"""Line 26 of the catalogue: whatever a job calls a path, it reads ordinary files below the data folders, or nothing.

Each case runs in every way that this system has of walking a path: openat2, by descriptor, by name.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.handling import make_folders
from support.inotify import IS_AVAILABLE, watching
from towpath_worker import beneath
from towpath_worker.beneath import Way
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders, create_for_writing, open_for_reading
from towpath_worker.spelling import spelt

SECRET, OURS = b"secret\n", b"a,b\n"
# "flüge.csv" as one character and as two.
COMPOSED, DECOMPOSED = "fl\u00fcge.csv", "flu\u0308ge.csv"

OUTSIDE = [
    "../secret.csv",
    "sub/../../secret.csv",
    "sub/..",
    "..",
    "/etc/passwd",
    "/",
    "//etc/passwd",
    "/proc/self/environ",
    "/proc/self/root/etc/passwd",
    "/proc/self/fd/0",
    "/proc/1/environ",
    "/dev/zero",
    "/dev/stdin",
    "/sys/kernel/notes",
    "~/secret.csv",
    "$HOME/secret.csv",
]
URLS = [
    "http://example.com/a.csv",
    "HTTPS://example.com/a.csv",
    "ftp://example.com/a.csv",
    "s3://bucket/a.csv",
    "gs://bucket/a.csv",
    "file:///etc/passwd",
    "file:/etc/passwd",
    "FILE:sub/flights.csv",
    "data:text/csv,a",
    "jar:file:/a.zip!/a.csv",
    "zip://a.csv::file:///etc/passwd",
    "simplecache::http://example.com/a.csv",
]
NETWORK = [
    "\\\\server\\share\\a.csv",
    "//server/share/a.csv",
    "\\/server\\share",
    "\\\\?\\C:\\secret.csv",
    "\\\\.\\pipe\\a",
    "//./a",
]
BROKEN = [
    "",
    " ",
    "\t",
    "\0",
    "sub/flights.csv\0",
    "sub/flights.csv\0.png",
    "\0/etc/passwd",
    "a\ud800.csv",
    "sub/\udcff.csv",
    "\udc2e\udc2e/x",
]
# Each is a name like any other, and no file here has it.
SPELLINGS = [
    "\uff0e\uff0e/secret.csv",  # fullwidth full stops
    "\u2024\u2024/secret.csv",  # one dot leaders
    "\u2025/secret.csv",  # a two dot leader
    "..\u2215secret.csv",  # a division slash
    "..\u2044secret.csv",  # a fraction slash
    "..\uff0fsecret.csv",  # a fullwidth slash
    "..\\secret.csv",
    "..%2fsecret.csv",
    "%2e%2e/secret.csv",
    "%2e%2e%2fsecret.csv",
    "\u00c0\u00ae\u00c0\u00ae/secret.csv",  # an overlong dot, read as Latin 1
    "..;/secret.csv",
    ".../secret.csv",
    ".. /secret.csv",
    " ../secret.csv",
    "..\u200b/secret.csv",  # a blank of no width
    "sub./flights.csv",
    "sub/flights.csv.",
    "sub/flights.csv ",
    " sub/flights.csv",
    "sub/flights.csv::$DATA",
    "sub/flights\u00ad.csv",  # a soft hyphen
    "SUB/flights.csv",
    "sub/FLIGHTS.CSV",
    "sub/\uff46lights.csv",  # a fullwidth f
    "sub/fl\u0131ghts.csv",  # an i without a dot
    DECOMPOSED,
    "C:\\Windows\\win.ini",
    "C:/Windows/win.ini",
    "C:secret.csv",
    "CON",
    "nul.csv",
]


@pytest.fixture(params=list(Way), ids=lambda way: way.name.lower())
def folders(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """A data folder with files that may be read; beside it lies one that may not."""
    if request.param not in beneath.ways():
        pytest.skip(f"this system has no {request.param.value}")
    monkeypatch.setattr(beneath, "way", request.param)
    made = make_folders(tmp_path)
    (made.data[0] / "sub").mkdir()
    (made.data[0] / "sub" / "flights.csv").write_bytes(OURS)
    (made.data[0] / COMPOSED).write_bytes(OURS)
    (tmp_path / "secret.csv").write_bytes(SECRET)
    return made


@contextmanager
def untouched(*files: Path) -> Iterator[None]:
    """None of these is opened meanwhile, nor read or written. Where the system cannot tell, only what is given back is
    looked at.
    """
    if not IS_AVAILABLE:
        yield
        return
    with watching(*files) as looker:
        yield
        assert looker.seen() == set()


def refused(folders: Folders, path: str) -> str:
    """What is said about the path, read or written."""
    with pytest.raises(InvalidInput) as told:
        open_for_reading(folders, path).close()
    return str(told.value)


@pytest.mark.skipif(not IS_AVAILABLE, reason="this system does not tell who opens a file")
def test_the_looker_sees_what_is_read(folders: Folders) -> None:
    with watching(folders.data[0] / "sub" / "flights.csv") as looker:
        with open_for_reading(folders, "sub/flights.csv") as file:
            assert looker.seen() == {("flights.csv", "opened")}
            assert file.read() == OURS
        assert looker.seen() == {("flights.csv", "read")}


def test_line_26_no_text_of_a_path_leads_out(folders: Folders, tmp_path: Path) -> None:
    data = folders.data[0]
    absolute = [str(tmp_path / "secret.csv"), f"{data}/../secret.csv", f"{data}2/a.csv", str(data).upper() + "/x.csv"]
    with untouched(tmp_path / "secret.csv", data / "sub" / "flights.csv", data / COMPOSED):
        for path in [*OUTSIDE, *URLS, *NETWORK, *BROKEN, *SPELLINGS, *absolute, str(data), "sub", "sub/", "."]:
            told = refused(folders, path)
            assert "\n" not in told
            assert "\0" not in told
            told.encode()
    for path in (*URLS[:-2], *URLS[-1:]):
        assert "URL" in refused(folders, path) or "no file" in refused(folders, path)
    for path in NETWORK:
        assert "network" in refused(folders, path)


def test_line_26_nor_a_link_in_any_place(folders: Folders, tmp_path: Path) -> None:
    data, secret = folders.data[0], tmp_path / "secret.csv"
    (data / "out.csv").symlink_to(secret)
    (data / "relative.csv").symlink_to("../secret.csv")
    (data / "again.csv").symlink_to("out.csv")
    (data / "inside.csv").symlink_to(data / "sub" / "flights.csv")
    (data / "up").symlink_to(tmp_path)
    (data / "sub" / "self").symlink_to(".")
    (data / "nowhere.csv").symlink_to(tmp_path / "nothing")
    (data / "round.csv").symlink_to("round.csv")
    (data / "environ.csv").symlink_to("/proc/self/environ")
    (data / "process").symlink_to("/proc/self")
    os.link(secret, data / "hard.csv")
    descriptor = os.open(secret, os.O_RDONLY)
    (data / "magic.csv").symlink_to(f"/proc/self/fd/{descriptor}")
    names = [
        "out.csv",
        "relative.csv",
        "again.csv",
        "inside.csv",
        "nowhere.csv",
        "round.csv",
        "environ.csv",
        "hard.csv",
    ]
    names += [
        "up/secret.csv",
        "sub/self/flights.csv",
        "process/environ",
        "process/cwd/x",
        "magic.csv",
        "up/data/out.csv",
    ]
    with untouched(secret, data / "sub" / "flights.csv"):
        for path in names:
            assert "link" in refused(folders, path), path
            with pytest.raises(InvalidInput), create_for_writing(folders, path) as file:
                file.write(b"overwritten")
    os.close(descriptor)
    assert secret.read_bytes() == SECRET
    assert not (tmp_path / "nothing").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_line_26_nor_what_is_no_file(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folders.data[0]
    os.mkfifo(data / "pipe.csv")
    odd = [data / "pipe.csv", data / "socket.csv"]
    monkeypatch.chdir(data)  # the address of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.csv")
        try:
            os.mknod(data / "zeros.csv", stat.S_IFCHR | 0o666, os.makedev(1, 5))
            odd.append(data / "zeros.csv")
        except OSError:  # only root makes devices
            pass
        # Opening the pipe would wait for its writer for ever.
        with untouched(*odd):
            for path in odd:
                assert "not an ordinary file" in refused(folders, path.name)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system has no /proc")
def test_line_26_nor_the_system_under_any_name(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "innocent").symlink_to("/proc/self")
    for root, paths in (
        (Path("/"), ("/proc/self/environ", "proc/self/environ", "dev/zero", "sys/kernel/notes")),
        (Path("/proc"), ("self/environ", "/proc/version", "version")),
        (tmp_path / "innocent", ("environ", "maps", f"{tmp_path}/innocent/environ")),
    ):
        for path in paths:
            refused(Folders((root,), folders.models, folders.results), path)
    # As where it is mounted a second time, in a folder of any name.
    with pytest.raises(OSError, match="the system's"):
        beneath.open_file(Path("/proc"), ("version",))


def test_line_26_nor_what_is_the_workers_own(folders: Folders, tmp_path: Path) -> None:
    for one in ("models", "results", "state"):
        (tmp_path / one).mkdir()
        (tmp_path / one / "a.csv").write_bytes(SECRET)
    (tmp_path / "linked").symlink_to(tmp_path / "state")
    for private in (tmp_path / "state", tmp_path / "linked"):
        everything = Folders((tmp_path,), folders.models, folders.results, private=(private,))
        for path in ("models/a.csv", "results/a.csv", "state/a.csv", f"{tmp_path}/state/a.csv"):
            assert "outside" in refused(everything, path)
            with pytest.raises(InvalidInput), create_for_writing(everything, path.replace("a.csv", "b.csv")):
                pass
        open_for_reading(everything, "data/sub/flights.csv").close()


def test_line_26_a_folder_that_ignores_case_gives_a_file_one_name(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such folders cannot be had everywhere; this one is played: what is asked in any case is found in lower case."""
    real_open, real_stat = beneath.Folder.open, beneath.Folder.stat
    monkeypatch.setattr(beneath.Folder, "open", lambda self, name, flags: real_open(self, name.lower(), flags))
    monkeypatch.setattr(beneath.Folder, "stat", lambda self, name: real_stat(self, name.lower()))
    with open_for_reading(folders, "sub/flights.csv") as file:
        assert file.read() == OURS
    with untouched(folders.data[0] / "sub" / "flights.csv"):
        for path in ("sub/FLIGHTS.csv", "sub/Flights.csv", "sub/flightS.csv"):
            assert "no file" in refused(folders, path)
        if beneath.way is not Way.BY_NAME:  # whose folders are looked at by their paths
            assert "no file" in refused(folders, "SUB/flights.csv")


def test_line_26_what_windows_takes_for_the_same_is_refused() -> None:
    for path in (
        "C:secret.csv",
        "sub\\..\\..\\secret.csv",
        "sub/flights.csv.",
        "sub /flights.csv",
        "sub\\flights.csv::$DATA",
        "a.csv:hidden",
        "nul",
        "sub/CON.csv",
        "con .txt",
        "COM\u00b9",
        "lpt9.parquet",
        "CONOUT$",
        "\\\\server\\share",
    ):
        with pytest.raises(InvalidInput):
            spelt(path, "D:\\data", windows=True)
    assert spelt("D:\\data\\a.csv", "D:\\data", windows=True).parts == ("D:", "data", "a.csv")


def swapped(change: Callable[[], None], back: Callable[[], None], stop: threading.Event) -> threading.Thread:
    def swap() -> None:
        while not stop.is_set():
            change()
            back()

    return threading.Thread(target=swap)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_line_26_what_is_swapped_between_check_and_use_is_not_read(
    folders: Folders, tmp_path: Path, which: str
) -> None:
    data = folders.data[0]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "flights.csv").write_bytes(SECRET)
    if which == "file":
        real, aside, link = data / "sub" / "flights.csv", tmp_path / "aside", tmp_path / "link"
        link.symlink_to(tmp_path / "elsewhere" / "flights.csv")
    else:
        real, aside, link = data / "sub", tmp_path / "aside", tmp_path / "link"
        link.symlink_to(tmp_path / "elsewhere")

    def change() -> None:
        real.rename(aside)
        link.rename(real)

    def back() -> None:
        real.rename(link)
        aside.rename(real)

    stop, read, refusals = threading.Event(), 0, 0
    swapper = swapped(change, back, stop)
    swapper.start()
    try:
        for _ in range(20_000):
            try:
                with open_for_reading(folders, "sub/flights.csv") as file:
                    assert file.read() == OURS
                read += 1
            except InvalidInput:
                refusals += 1
            if min(read, refusals) >= 80:
                break
    finally:
        stop.set()
        swapper.join()
    assert read
    assert refusals
