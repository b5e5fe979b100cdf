"""The end of a run: by itself, by a signal, or by an error, in one sentence with a status."""

import contextlib
import errno
import logging
import signal
import threading
import traceback
from collections.abc import Iterator
from types import FrameType

import torch

logger = logging.getLogger("dassl")

# 0 is a run that did all it was asked for; argparse too ends with 2.
UNEXPECTED, REFUSED, DIVERGED, STOPPED, MACHINE, INCOMPLETE, NO_GPU = 1, 2, 3, 4, 5, 6, 7

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EACCES: "make it accessible, or use another folder",
    errno.EPERM: "make it accessible, or use another folder",
    errno.EROFS: "make it writable, or use another folder",
    errno.EMFILE: "raise the limit (ulimit -n), or lower DATALOADER.NUM_WORKERS",
    errno.EIO: "check the disk",
}


class Stop(contextlib.AbstractContextManager):
    """Turns the first SIGINT or SIGTERM into an orderly stop; a second one ends at once.

    Attributes:
        trainer: what is asked to stop; while there is none, the signal interrupts right away.
        signum: the signal that came, if one did.
    """

    def __init__(self) -> None:
        self.trainer = None
        self.signum: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python forbids it
            self._before = {signum: signal.signal(signum, self._receive) for signum in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _receive(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        request = getattr(self.trainer, "request_stop", None)  # upstream's engine has none
        if request is None:
            raise KeyboardInterrupt
        request()


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Log errors in threads (TensorBoard's) in one line; they reach the run by themselves."""

    def log(error: threading.ExceptHookArgs) -> None:
        with contextlib.suppress(OSError):  # the log's disk may be the error
            logger.warning("In %s: %s", error.thread and error.thread.name, error.exc_value)

    before, threading.excepthook = threading.excepthook, log
    try:
        yield
    finally:
        threading.excepthook = before


def explain(error: Exception, running: bool) -> tuple[int, str]:
    """Return the exit status of an error, and one sentence about it.

    Args:
        running: whether training or evaluation had begun; before that a wrong value is the user's.
    """
    text = _text(error)
    if isinstance(error, FloatingPointError):
        return DIVERGED, text
    if isinstance(error, OSError) and error.errno in ADVICE:
        where = f" ({error.filename})" if error.filename else ""
        return MACHINE, f"{error.strerror}{where}: {ADVICE[error.errno]}."
    if ended := _lost_worker(error):
        return MACHINE, f"{ended}. Too little memory may be why: lower DATALOADER.NUM_WORKERS."
    if isinstance(error, OSError) and running:
        return MACHINE, text
    # CUDA's own error, where what ran out was not PyTorch's to allocate, has no type of its own.
    of_cuda = isinstance(error, RuntimeError) and "CUDA error: out of memory" in text
    if of_cuda or isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return MACHINE, f"The memory is used up ({text}): lower DATALOADER.TRAIN_X.BATCH_SIZE."
    if isinstance(error, (ValueError, TypeError, OSError)) and not running:
        return REFUSED, text
    return UNEXPECTED, f"{type(error).__name__}: {text} (not foreseen; --debug shows its place)."


def _lost_worker(error: Exception) -> str:
    """Return how a loader's process ended, or nothing if that is not the error.

    PyTorch notices most of the time; else the connection to that process breaks first.
    """
    text = _text(error)
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return text.rstrip(".")
    last = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    modules = [str(frame.f_globals.get("__name__")) for frame in last]
    if isinstance(error, (ConnectionError, EOFError)) and modules == ["multiprocessing.connection"]:
        return f"A DataLoader worker ended ({text})"
    return ""


def _text(error: Exception) -> str:
    """Return the message in one line; for an error in a loader's process, that error's own."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if any(line.startswith("Original Traceback") for line in lines):
        lines = [lines[-1].partition(": ")[2] or lines[-1]]
    return " ".join(" ".join(lines).split())
