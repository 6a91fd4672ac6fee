"""A certificate for this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certify(folder: Path) -> None:
    """cert.pem and key.pem of this machine in `folder`; clients trust cert.pem."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    words += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(words, check=True, capture_output=True)
