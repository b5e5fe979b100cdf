"""One run at a time in an output folder: a lock file that names its holder.

The file holds the owner's host, process number and an identity of that process, and its job on a
Slurm cluster. The identity is the process's start since the machine's boot, so neither a process
number used again nor a clock set back makes a dead owner look alive. An owner on another machine is
dead if Slurm says that its job is not there. The file is created exclusively, which file systems
that several machines share can do, whether or not they have locks.
"""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NAME = ".lock"
DEAD = ("Z", "X")  # states of a process that ended


class InUse(ValueError):
    """Another run holds a folder."""


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which is made if missing.

    Raises:
        InUse: another run holds it: which, and what to do. A lock whose owner is known to be dead
            is taken over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _hold(folder / NAME):
        yield


@contextlib.contextmanager
def _hold(path: Path) -> Iterator[None]:
    me = _me()
    while not _create(path, me):
        with contextlib.suppress(FileNotFoundError):  # its owner has just let it go
            owner = read_owner(path)
            if owner and may_be_alive(owner):
                raise InUse(_in_use(path.parent, owner, me["host"]))
            # One at a time may remove a dead owner's lock, or a slow one would remove a live one's.
            with _hold(path.with_name(f"{path.name}-")):
                if read_owner(path) == owner:
                    path.unlink()
    try:
        yield
    finally:
        # A folder that went away or became read-only keeps a lock that is seen to be dead.
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text()) == me:
                path.unlink()


def _me() -> dict:
    here = {"host": socket.gethostname(), "pid": os.getpid(), "identity": identity(os.getpid())}
    return {**here, "job": slurm_job(), "node": os.environ.get("SLURMD_NODENAME", "")}


def slurm_job() -> str:
    """Return this process's job, as 12 or 12_3 in an array; "" outside of Slurm."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def _create(path: Path, me: dict) -> bool:
    try:
        with path.open("x") as file:
            file.write(json.dumps(me))
    except FileExistsError:
        return False
    return True


def read_owner(path: Path) -> dict | None:
    """Return who is named in a lock; None if its writer was interrupted.

    Raises:
        FileNotFoundError: it is not there.
    """
    for _ in range(10):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            owner = json.loads(path.read_text())
            known = {key: owner[key] for key in ("host", "pid", "identity")}
            return {**known, "job": owner.get("job", ""), "node": owner.get("node", "")}
        time.sleep(0.05)  # whoever created it a moment ago is about to write
    return None


def identity(pid: int) -> str | None:
    """Return what no other process of this number has or had; None where none is alive.

    One that ended and that its parent did not wait for (a zombie) is dead.
    """
    try:
        # Fields 3 and 22, counted behind the name, which may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in DEAD else f"{boot} {fields[19]}"
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return None
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    state, _, start = shown.strip().partition(" ")
    return None if state.startswith(DEAD) else start.strip() or None


def may_be_alive(owner: dict) -> bool:
    """Return whether the owner of a lock is alive, or nobody can tell from here."""
    if owner["host"] == socket.gethostname():
        return identity(owner["pid"]) == owner["identity"]
    if not (owner["job"] and owner["node"]):
        return True
    command = ["squeue", "--noheader", "--jobs", owner["job"], "--nodelist", owner["node"]]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return True
    if found.returncode:  # a job that ended some minutes ago is not known any more
        return "Invalid job id" not in found.stderr
    return bool(found.stdout.strip())


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
