"""Log plain lines to the console and to OUTPUT_DIR/log.txt, with the logger ``dassl``."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TextIO


class _StdoutHandler(logging.StreamHandler):
    """Write to what ``sys.stdout`` is when a message arrives, not when the handler was made.

    A console that was closed (``| head``, a closed terminal) does not disturb a run.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _LogFile(logging.FileHandler):
    """Raise the error of a log that cannot be written, instead of printing a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, self.baseFilename) from error
        super().handleError(record)


def _console_only() -> logging.Logger:
    logger = logging.getLogger("dassl")
    logger.setLevel(logging.INFO)
    # The logger owns its console handler; propagated messages would be printed twice.
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(_StdoutHandler())
    return logger


LOGGER = _console_only()


def setup_logger(output: str | PathLike[str] | None = None) -> logging.Logger:
    """Send the messages of the logger ``dassl`` to the console and to a file.

    Args:
        output: a folder (the file is its ``log.txt``), a path ending in .txt or .log, or
            ``None`` for the console only. A file that exists is kept: the time is appended to
            the name of the new one, as in upstream's ``log.txt-2022-10-01-12-00-00``.

    Returns:
        The logger. Handlers of an earlier call are removed and their files closed.
    """
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
        with contextlib.suppress(OSError):  # its last line did not fit on the disk
            handler.close()
    LOGGER.addHandler(_StdoutHandler())
    if output is not None:
        path = Path(output)
        if path.suffix not in (".txt", ".log"):
            path = path / "log.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path = path.with_name(path.name + time.strftime("-%Y-%m-%d-%H-%M-%S"))
        LOGGER.addHandler(_LogFile(path, mode="a", encoding="utf-8"))
    for handler in LOGGER.handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
    return LOGGER


@contextlib.contextmanager
def own_handlers(handlers: list[logging.Handler]) -> Iterator[None]:
    """Give the logger ``dassl`` these handlers inside the block (not upstream's).

    `setup_logger` then changes this list and leaves the files that are open outside alone, so one
    process can serve several runs in turn, each with its own log.
    """
    outside, LOGGER.handlers = LOGGER.handlers, handlers
    try:
        yield
    finally:
        LOGGER.handlers = outside
