"""What a job may read and write, and what is refused before a byte is read."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from support.handling import make_folders
from towpath_worker import beneath
from towpath_worker.beneath import Way
from towpath_worker.errors import InvalidInput
from towpath_worker.leftovers import make_scratch
from towpath_worker.paths import Folders, create_for_writing, open_for_reading

SECRET = b"secret"


@pytest.fixture(params=list(Way), ids=lambda way: way.name.lower())
def folders(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Each test runs in every way that this system has of walking a path."""
    if request.param not in beneath.ways():
        pytest.skip(f"this system has no {request.param.value}")
    monkeypatch.setattr(beneath, "way", request.param)
    made = make_folders(tmp_path)
    (made.data[0] / "sub").mkdir()
    (made.data[0] / "sub" / "flights.csv").write_bytes(b"a,b\n")
    (tmp_path / "secret.csv").write_bytes(SECRET)
    return made


def test_reads_below_the_data_folders(folders: Folders) -> None:
    data = folders.data[0]
    for path in ("sub/flights.csv", "./sub//flights.csv", str(data / "sub" / "flights.csv")):
        with open_for_reading(folders, path) as file:
            assert file.read() == b"a,b\n"


def test_tries_each_data_folder_in_turn(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.csv").write_bytes(b"x\n")
    both = Folders((*folders.data, tmp_path / "more"), folders.models, folders.results)
    for path in ("other.csv", str(tmp_path / "more" / "other.csv")):
        with open_for_reading(both, path) as file:
            assert file.read() == b"x\n"


def test_a_data_folder_may_itself_be_a_link(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folders.data[0])
    linked = Folders((tmp_path / "link",), folders.models, folders.results)
    for path in ("sub/flights.csv", f"{tmp_path}/link/sub/flights.csv", f"{folders.data[0]}/sub/flights.csv"):
        open_for_reading(linked, path).close()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("../secret.csv", "'..'"),
        ("sub/../../secret.csv", "'..'"),
        ("sub/..", "'..'"),
        ("/etc/passwd", "outside"),
        ("/proc/self/environ", "outside"),
        ("/dev/stdin", "outside"),
        ("http://example.com/a.csv", "URL"),
        ("file:///etc/passwd", "URL"),
        ("s3://bucket/key.csv", "URL"),
        ("data:text/csv,a", "URL"),
        ("\\\\server\\share\\a.csv", "network"),
        ("//server/share/a.csv", "network"),
        ("sub/flights.csv\0.png", "NUL"),
        ("", "empty"),
        ("  ", "empty"),
        ("sub", "folder"),
        ("/", "outside"),
        (".", "outside"),
        ("SUB/FLIGHTS.CSV", "no file"),
        ("sub/flights.csv/more", "as if it were a folder"),
        ("\uff0e\uff0e/secret.csv", "no file"),
        ("sub/" + "a" * 300, "too long"),
    ],
)
def test_refuses(folders: Folders, path: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        open_for_reading(folders, path)


def test_refuses_a_path_that_only_begins_like_a_data_folder(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2" / "a.csv").write_bytes(SECRET)
    for path in (tmp_path / "data2" / "a.csv", tmp_path / "DATA" / "sub" / "flights.csv", tmp_path / "secret.csv"):
        with pytest.raises(InvalidInput, match="outside"):
            open_for_reading(folders, str(path))


def test_follows_no_link(folders: Folders, tmp_path: Path) -> None:
    data = folders.data[0]
    (data / "out.csv").symlink_to(tmp_path / "secret.csv")
    (data / "inside.csv").symlink_to(data / "sub" / "flights.csv")
    (data / "up").symlink_to(tmp_path)
    (data / "nowhere.csv").symlink_to(tmp_path / "nothing")
    for path in ("out.csv", "inside.csv", "up/secret.csv", "nowhere.csv"):
        with pytest.raises(InvalidInput, match="link"):
            open_for_reading(folders, path)


def test_refuses_a_second_name_of_a_file(folders: Folders, tmp_path: Path) -> None:
    os.link(tmp_path / "secret.csv", folders.data[0] / "hard.csv")
    with pytest.raises(InvalidInput, match="hard link"):
        open_for_reading(folders, "hard.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_refuses_what_is_no_ordinary_file(folders: Folders) -> None:
    os.mkfifo(folders.data[0] / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as listening:
        # The address of a socket must be short.
        descriptor = os.open(folders.data[0], os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{descriptor}/s.csv" if Path("/proc/self/fd").exists() else "s.csv")
        for path in ("pipe.csv", "s.csv"):
            with pytest.raises(InvalidInput, match="not an ordinary file"):
                open_for_reading(folders, path)
        os.close(descriptor)


def test_the_system_is_no_data(folders: Folders) -> None:
    everything = Folders((Path("/"),), folders.models, folders.results)
    for path in ("/proc/self/environ", "proc/self/environ", "/dev/zero"):
        with pytest.raises(InvalidInput, match="outside"):
            open_for_reading(everything, path)


def test_temporary_files_of_jobs_are_no_data(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folders.data[0]))
    scratch = make_scratch("0123456789abcdef")
    assert scratch is not None
    (scratch / "a.csv").write_bytes(b"secret")
    with pytest.raises(InvalidInput, match="outside"):
        open_for_reading(folders, f"{scratch.name}/a.csv")


def test_a_missing_file_names_similar_ones_and_the_folders(folders: Folders) -> None:
    with pytest.raises(InvalidInput) as told:
        open_for_reading(folders, "sub/flight.csv")
    assert "did you mean 'sub/flights.csv'?" in str(told.value)
    assert str(folders.data[0]) in str(told.value)


def test_without_data_folders_it_says_how_to_get_some(folders: Folders) -> None:
    with pytest.raises(InvalidInput, match="--data-dir"):
        open_for_reading(Folders((), folders.models, folders.results), "a.csv")


def test_leaves_no_descriptor_open(folders: Folders, tmp_path: Path) -> None:
    (folders.data[0] / "out.csv").symlink_to(tmp_path / "secret.csv")
    listing = Path("/proc/self/fd")
    if not listing.exists():
        pytest.skip("this system lists no descriptors")
    before = len(list(listing.iterdir()))
    for path in ("out.csv", "sub", "missing.csv", "sub/flights.csv/more"):
        with pytest.raises(InvalidInput):
            open_for_reading(folders, path)
    assert len(list(listing.iterdir())) == before


def test_writes_a_new_file_whole(folders: Folders) -> None:
    with create_for_writing(folders, "sub/out.csv") as file:
        file.write(b"x")
        assert not (folders.data[0] / "sub" / "out.csv").exists()
    assert (folders.data[0] / "sub" / "out.csv").read_bytes() == b"x"
    assert sorted(path.name for path in (folders.data[0] / "sub").iterdir()) == ["flights.csv", "out.csv"]
    open_for_reading(folders, "sub/out.csv").close()
    with create_for_writing(folders, long := "\N{CJK UNIFIED IDEOGRAPH-8A9E}" * 80 + ".csv") as file:
        file.write(b"x")
    open_for_reading(folders, long).close()


def test_never_overwrites_another_file(folders: Folders) -> None:
    path = folders.data[0] / "sub" / "flights.csv"
    with pytest.raises(InvalidInput, match="never overwritten"), create_for_writing(folders, "sub/flights.csv") as file:
        file.write(b"other")
    assert path.read_bytes() == b"a,b\n"
    assert list(path.parent.iterdir()) == [path]


def test_disks_without_hard_links(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with create_for_writing(folders, "out.csv") as file:
        file.write(b"x")
    assert (folders.data[0] / "out.csv").read_bytes() == b"x"
    with pytest.raises(InvalidInput, match="never overwritten"), create_for_writing(folders, "out.csv") as file:
        file.write(b"y")
    assert sorted(path.name for path in folders.data[0].iterdir()) == ["out.csv", "sub"]


def test_writing_the_same_again_is_well(folders: Folders) -> None:
    for _ in range(2):
        with create_for_writing(folders, "out.csv") as file:
            file.write(b"same")
    assert (folders.data[0] / "out.csv").read_bytes() == b"same"


def test_a_failed_write_leaves_nothing(folders: Folders) -> None:
    def fail() -> None:
        with create_for_writing(folders, "out.csv") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in folders.data[0].iterdir()] == ["sub"]


def test_writes_nowhere_else(folders: Folders, tmp_path: Path) -> None:
    (folders.data[0] / "up").symlink_to(tmp_path)
    (folders.data[0] / "link.csv").symlink_to(tmp_path / "new.csv")
    for path in ("../new.csv", "up/new.csv", "link.csv", str(tmp_path / "new.csv"), "missing/new.csv"):
        with pytest.raises(InvalidInput), create_for_writing(folders, path) as file:
            file.write(b"x")
    assert not (tmp_path / "new.csv").exists()
