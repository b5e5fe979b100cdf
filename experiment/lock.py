"""One run at a time in an output folder: a lock file that names its holder.

The file holds the owner's host, process number and an identity of that process. The identity is
the process's start since the machine's boot, so neither a process number used again nor a clock
set back makes a dead owner look alive.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

NAME = ".lock"
# File systems without locks of their own: then two runs that start within a millisecond may meet.
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


class InUse(ValueError):
    """Another run holds a folder."""


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which is made if missing.

    Raises:
        InUse: another run holds it: which, and what to do. A lock whose owner on this
            host is dead is taken over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    me = {"host": socket.gethostname(), "pid": os.getpid(), "identity": identity(os.getpid())}
    with _alone(path) as file:
        owner = _read(file)
        if owner and _may_be_alive(owner, me["host"]):
            raise InUse(_in_use(folder, owner, me["host"]))
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(me).encode(), 0)
    try:
        yield
    finally:
        # A folder that went away or became read-only keeps a lock that is seen to be dead.
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text()) == me:
                path.unlink()


def identity(pid: int) -> str | None:
    """Return what no other process of this number has or had; None where there is none."""
    try:
        # Field 22, counted behind the name, which may hold spaces and brackets.
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {start}"
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return None
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return shown.stdout.strip() or None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[int]:
    """Open `path` for reading and writing, while no other process has it open this way."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
            if _is_still(path, descriptor):  # else its owner deleted it in the meantime
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(file: int) -> dict | None:
    """Return the owner; None in a new file, or where its writer was interrupted."""
    try:
        owner = json.loads(os.pread(file, 4096, 0))
        return {key: owner[key] for key in ("host", "pid", "identity")}
    except (ValueError, KeyError, TypeError):
        return None


def _may_be_alive(owner: dict, host: str) -> bool:
    return owner["host"] != host or identity(owner["pid"]) == owner["identity"]


def _in_use(folder: Path, owner: dict, host: str) -> str:
    if owner["host"] == host:
        return (
            f"Output folder {folder} is in use by the run of process {owner['pid']}: wait for it, "
            "end it, or pass another --output-dir."
        )
    return (
        f"Output folder {folder} is in use by process {owner['pid']} on {owner['host']}, and from "
        f"{host} nobody can see whether that one is alive: if it is not, delete {folder / NAME}; "
        "else pass another --output-dir."
    )
