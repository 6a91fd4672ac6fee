"""The API for handlers: parameters in, results out."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import threading
import uuid
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from google.protobuf import json_format, struct_pb2

from towpath_worker.binding import bind
from towpath_worker.errors import Cancelled, InvalidInput
from towpath_worker.handler import JOB_TYPE_ATTRIBUTE, Context, ProgressUpdate, handler
from towpath_worker.paths import Folders
from towpath_worker.results import MAX_DEPTH, UnsendableResult, to_value


def params(**given: Any) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(given)
    return struct


def example(
    ctx: Context,
    path: Path,
    width: int = 100,
    *,
    scale: float | None = None,
    mode: Literal["fast", "exact"] = "fast",
    sizes: tuple[int, ...] = (),
    extra: dict[str, int] | None = None,
    anything: Any = None,
) -> None:
    """Has parameters of every kind."""


def test_parameters_come_as_their_annotations_say() -> None:
    bound = bind(example, params(path="a/b", width=3, scale=2, sizes=[1, 2], extra={"a": 1}, anything=[1, 1.5, None]))
    assert bound == {
        "path": Path("a/b"),
        "width": 3,
        "scale": 2.0,
        "sizes": (1, 2),
        "extra": {"a": 1},
        "anything": [1, 1.5, None],
    }
    assert type(bound["scale"]) is float
    assert type(bound["width"]) is int


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "'path' is missing"),
        ({"path": "a", "widht": 1}, "did you mean 'width'"),
        ({"path": 1}, "'path' must be text, not the number 1"),
        ({"path": "a", "width": 1.5}, "'width' must be a whole number, not 1.5"),
        ({"path": "a", "width": True}, "'width' must be a whole number, not true"),
        ({"path": "a", "scale": "x"}, "'scale' must be a number or null, not text"),
        ({"path": "a", "mode": "slow"}, "'mode' must be one of 'fast', 'exact', not 'slow'"),
        ({"path": "a", "sizes": [1, "b"]}, "'sizes' must be a whole number, not text"),
        ({"path": "a", "extra": []}, "'extra' must be an object or null, not a list"),
    ],
)
def test_a_wrong_parameter_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        bind(example, params(**given))
    assert words in str(caught.value)


def test_a_handler_with_keyword_arguments_takes_any_name() -> None:
    def greedy(ctx: Context, **rest: Any) -> None: ...

    assert bind(greedy, params(a=1, b="x")) == {"a": 1, "b": "x"}


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("result", "as_json"),
    [
        (None, None),
        (True, True),
        (np.bool_(True), True),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (float("nan"), None),
        (2**60, str(2**60)),
        (np.array([[1.0, float("inf")]]), [[1, None]]),
        (Point(1, {"a"}), {"x": 1, "tags": ["a"]}),
        ({1: "a", None: (1, 2), Colour.RED: Colour.RED}, {"1": "a", "null": [1, 2], "red": "red"}),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00+00:00"),
        (datetime.timedelta(seconds=1.5), 1.5),
        (Path("a"), "a"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("lone \ud800", "lone ?"),
    ],
)
def test_a_result_goes_as_json(result: Any, as_json: Any) -> None:
    assert json_format.MessageToDict(to_value(result)) == as_json


@pytest.mark.parametrize(
    ("result", "words"), [({"a": [1, b"x"]}, "result['a'][1] is of type bytes"), (object(), "object")]
)
def test_what_cannot_go_is_named(result: Any, words: str) -> None:
    with pytest.raises(UnsendableResult) as caught:
        to_value(result)
    assert words in str(caught.value)


def test_a_result_nested_too_deep_is_refused_and_the_deepest_allowed_can_be_read() -> None:
    nested: Any = 1
    for _ in range(MAX_DEPTH):
        nested = [nested]
    struct_pb2.Value.FromString(to_value(nested).SerializeToString())
    with pytest.raises(UnsendableResult, match="nested"):
        to_value([nested])


class Recorder:
    def __init__(self) -> None:
        self.updates: list[ProgressUpdate] = []
        self.lines: list[str] = []

    def progress(self, update: ProgressUpdate) -> None:
        self.updates.append(update)

    def log(self, text: str) -> None:
        self.lines.append(text)


def test_a_context_keeps_what_a_progress_leaves_out() -> None:
    recorder, stop = Recorder(), threading.Event()
    folders = Folders((), Path("models"), Path("results"))
    ctx = Context(
        job_id="job_1", attempt=1, workdir=Path("work"), folders=folders, teller=recorder, stop=stop, threads=2
    )
    ctx.progress(120, "begun", phase="fit", eta=3)
    ctx.metric("loss", 0.5)
    ctx.metric("loss", float("nan"))
    ctx.log("line")
    assert recorder.updates[0] == ProgressUpdate(100, "begun", "fit", {}, 3)
    assert recorder.updates[-1] == ProgressUpdate(100, "begun", "fit", {"loss": 0.5}, None)
    assert recorder.lines == ["line\n"]
    ctx.raise_if_cancelled()
    stop.set()
    assert ctx.cancelled
    with pytest.raises(Cancelled):
        ctx.raise_if_cancelled()


def test_no_library_swallows_a_cancel() -> None:
    assert not issubclass(Cancelled, Exception)


def test_a_handler_is_registered_under_a_good_name_only_once() -> None:
    @handler("test.registered")
    def function(ctx: Context) -> None: ...

    assert getattr(function, JOB_TYPE_ATTRIBUTE) == "test.registered"
    for name in ("train", "", "1x", "a b"):
        with pytest.raises(ValueError, match="job type"):
            handler(name)

    def another(ctx: Context) -> None: ...

    with pytest.raises(ValueError, match="two handlers"):
        handler("test.registered")(another)
    with pytest.raises(TypeError, match="first parameter"):
        handler("test.bare")(lambda: None)
