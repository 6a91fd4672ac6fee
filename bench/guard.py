"""Runs a program, and ends it with all its descendants when whoever started this is gone.

`python guard.py SIGNAL USER PROGRAM ...`: the signal asks it to end; "-" for USER leaves the user as it is. Whoever
starts this holds the other end of its standard input; when that closes, for whatever reason, everything ends.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading

import psutil

GRACE_SECONDS = 5.0
#: How often what is left is looked for: who is killed may just have started another.
TRIES = 10
#: prctl(2): orphans among the descendants become children of this process, so that none is lost.
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Ends with the program's own exit status."""
    ask, user, *words = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A terminal's Ctrl-C is for whoever started this. A handler, since programs inherit what is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    name = None if user == "-" else user
    program = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        user=name,
        group=None if name is None else pwd.getpwnam(name).pw_gid,
        extra_groups=[] if name else None,
    )
    threading.Thread(target=_listen, args=(program, signal.Signals[ask]), daemon=True).start()
    status = program.wait()
    _end_all()
    os._exit(status if status >= 0 else 128 - status)


def _listen(program: subprocess.Popen[bytes], ask: signal.Signals) -> None:
    while os.read(0, 1024):
        pass
    program.send_signal(ask)
    try:
        program.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        program.kill()


def _end_all() -> None:
    for _ in range(TRIES):
        family = psutil.Process().children(recursive=True)
        if not family:
            return
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=1)


if __name__ == "__main__":
    main()
