"""Write the Python stubs from the protos: `make stubs`. With `--check`, say whether the committed ones are up to date.

Clients must be able to import the stubs beside any other package that carries `buf.validate`, and without it; so the
rules are taken out of the stubs, and the server gets them apart, as one descriptor set.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = Path("client")
RULES = Path("server", "towpath_server", "rpc", "rules.binpb")
VALIDATE = "buf/validate/validate.proto"


def protoc(*arguments: str) -> None:
    """Run protoc; it finds its plugins beside this interpreter."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True, env={**os.environ, "PATH": path}
    )


def without_rules(files: descriptor_pb2.FileDescriptorSet) -> descriptor_pb2.FileDescriptorSet:
    """The same files with neither the rules nor the import that declares them."""
    kept = descriptor_pb2.FileDescriptorSet()
    for file in files.file:
        if file.name == VALIDATE:
            continue
        bare = kept.file.add()
        bare.CopyFrom(file)
        # The rules are extensions that nobody here has registered: unknown fields.
        bare.DiscardUnknownFields()
        dependencies = [name for name in file.dependency if name != VALIDATE]
        bare.ClearField("dependency")
        bare.dependency.extend(dependencies)
    return kept


def generate(target: Path) -> None:
    """Write stubs and rules under `target`, which is laid out as the repository."""
    names = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("towpath/**/*.proto"))
    stubs, rules = target / STUBS, target / RULES
    stubs.mkdir(parents=True, exist_ok=True)
    rules.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        whole, bare = Path(scratch, "whole.binpb"), Path(scratch, "bare.binpb")
        protoc(f"-I{PROTOS}", "--include_imports", f"--descriptor_set_out={rules}", *names)
        protoc(f"-I{PROTOS}", "--include_imports", "--include_source_info", f"--descriptor_set_out={whole}", *names)
        files = descriptor_pb2.FileDescriptorSet.FromString(whole.read_bytes())
        bare.write_bytes(without_rules(files).SerializeToString(deterministic=True))
        protoc(
            f"--descriptor_set_in={bare}",
            f"--python_out={stubs}",
            f"--grpc_python_out={stubs}",
            f"--mypy_out=quiet:{stubs}",
            f"--mypy_grpc_out=quiet:{stubs}",
            *names,
        )


def generated(root: Path) -> dict[Path, bytes]:
    """The bytes of every generated file under `root`, by path."""
    paths = [*(root / STUBS).glob("towpath/**/*_pb2*.py*"), root / RULES]
    return {path.relative_to(root): path.read_bytes() for path in paths if path.is_file() and path.suffix != ".pyc"}


def main() -> None:
    """Write, or with `--check` compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a byte would change")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, committed = generated(Path(scratch)), generated(ROOT)
    changed = sorted(str(path) for path in fresh.keys() | committed.keys() if fresh.get(path) != committed.get(path))
    if check and changed:
        sys.exit(f"Out of date with protos/ (run `make stubs`): {', '.join(changed)}")
    if not check:
        for path in committed.keys() - fresh.keys():
            (ROOT / path).unlink()
        for path, content in fresh.items():
            if committed.get(path) != content:
                (ROOT / path).write_bytes(content)


if __name__ == "__main__":
    main()
