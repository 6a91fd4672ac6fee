"""Linux's openat2: opens below a folder, and the kernel itself keeps to the folder and follows no link.

https://man7.org/linux/man-pages/man2/openat2.2.html
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
# Other folders may be mounted below the data folder: RESOLVE_NO_XDEV is not asked for.
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
#: The same on every architecture but alpha.
_NUMBER = 437
_TRIES = 100


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(folder: int, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of what lies at `path`, relative to the descriptor of a folder. Raises OSError.

    `mode` is for a file that is created: without O_CREAT it must be 0.
    """
    how = _How(flags | os.O_CLOEXEC, mode, _RESOLVE)
    for _ in range(_TRIES):
        opened = _call(folder, os.fsencode(path), how)
        if opened >= 0:
            return opened
        # EAGAIN: something was renamed meanwhile, and the kernel could not be sure.
        if (number := ctypes.get_errno()) not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number), path)


@functools.cache
def is_available() -> bool:
    """Whether this system has the call: Linux since 5.6, unless a container's filter keeps it back."""
    if not sys.platform.startswith("linux"):
        return False
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        os.close(open_beneath(root, ".", os.O_PATH | os.O_DIRECTORY))
    except (OSError, AttributeError):
        return False
    finally:
        os.close(root)
    return True


def _call(folder: int, path: bytes, how: _How) -> int:
    size = ctypes.c_size_t(ctypes.sizeof(how))
    opened: int = _libc().syscall(ctypes.c_long(_NUMBER), ctypes.c_int(folder), path, ctypes.byref(how), size)
    return opened


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
