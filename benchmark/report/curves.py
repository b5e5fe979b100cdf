"""Read training curves and up-projections of a run from its log.txt and its checkpoint."""

import logging
import re
from pathlib import Path

from dassl.utils import latest_checkpoint, load_checkpoint
from torch import Tensor

logger = logging.getLogger(__name__)

BATCH = re.compile(r"epoch \[(\d+)/\d+\] batch \[\d+/\d+\] (.*) lr ")
VALUE = re.compile(r"(\w+) [-+.\deE]+ \(([-+.\deE]+)\)")  # name, last value, mean of the epoch


def loss_curves(folder: Path) -> dict[str, dict[int, float]]:
    """Return each term of the loss by epoch: its mean over the epoch, as the last line of it says.

    Logs of a resumed run are read in the order of their times; a repeated epoch is the later one.
    """
    curves: dict[str, dict[int, float]] = {}
    for log in sorted(folder.glob("log.txt*"), key=lambda path: path.stat().st_mtime):
        for epoch, values in BATCH.findall(log.read_text(encoding="utf-8", errors="replace")):
            for name, mean in VALUE.findall(values):
                if name.startswith("loss"):
                    curves.setdefault(name, {})[int(epoch)] = float(mean)
    return curves


def up_projection(folder: Path) -> Tensor | None:
    """Return |U| (J, T) of a run's shared up-projection U (J, T, r), the norm over the rank.

    None for a run without one: of another method, or without a checkpoint that can be read.
    """
    path = next(filter(None, map(latest_checkpoint, sorted(folder.glob("*/")))), None)
    try:
        up = load_checkpoint(path)["state_dict"].get("up") if path else None
    except (ValueError, OSError, KeyError) as error:
        logger.warning("Passed over %s: %s", path, error)
        return None
    return None if up is None or up.ndim != 3 else up.float().norm(dim=-1)
