"""The logger ``dassl``: plain lines on the console and in OUTPUT_DIR/log.txt."""

from __future__ import annotations

import logging
import sys
import time
from os import PathLike
from pathlib import Path
from typing import TextIO

__all__ = ["LOGGER", "setup_logger"]


class _StdoutHandler(logging.StreamHandler):
    """Writes to whatever ``sys.stdout`` is when a message arrives, not when it was made."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout


def _console_only() -> logging.Logger:
    logger = logging.getLogger("dassl")
    logger.setLevel(logging.INFO)
    # The logger owns its console handler; passing messages on would print them twice.
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(_StdoutHandler())
    return logger


LOGGER = _console_only()


def setup_logger(output: str | PathLike[str] | None = None) -> logging.Logger:
    """Send the messages of the logger ``dassl`` to the console and to a file.

    Args:
        output: a folder (the file is its ``log.txt``), a path ending in .txt or .log, or
            ``None`` for the console only. A file that exists is kept: the new one gets the
            time appended, as upstream's ``log.txt-2022-10-01-12-00-00``.

    Returns:
        The logger. Handlers of an earlier call are removed and their files closed.
    """
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
        handler.close()
    LOGGER.addHandler(_StdoutHandler())
    if output is not None:
        path = Path(output)
        if path.suffix not in (".txt", ".log"):
            path = path / "log.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path = path.with_name(path.name + time.strftime("-%Y-%m-%d-%H-%M-%S"))
        LOGGER.addHandler(logging.FileHandler(path, mode="a", encoding="utf-8"))
    for handler in LOGGER.handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
    return LOGGER
