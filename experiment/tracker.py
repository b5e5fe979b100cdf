"""Send a run's scalars to W&B or trackio as well: TRAIN.TRACKER. TensorBoard has them in any case.

Both have `init`, which returns a run with `log` and `finish`. Where they keep the runs, and whether
they need a network, is theirs to say (WANDB_MODE=offline, WANDB_PROJECT).
"""

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml
from dassl.engine import TrainerX
from yacs.config import CfgNode

TRACKERS = ("wandb", "trackio")
logger = logging.getLogger("dassl")


def check_tracker(cfg: CfgNode) -> None:
    """Raise ValueError unless the tracker of a configuration can be imported."""
    name = cfg.TRAIN.get("TRACKER", "")  # upstream's configuration has no such key
    if name:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(f"TRAIN.TRACKER {name} is not there: pip install {name}.") from error


@contextmanager
def tracked(trainer: TrainerX) -> Iterator[None]:
    """Send what the trainer writes to TensorBoard to the tracker of its configuration, if any.

    An error of the tracker is logged and ends the tracking, not the run.
    """
    name = trainer.cfg.TRAIN.get("TRACKER", "")
    if not name:
        yield
        return
    tracker, write = _Tracker(name, trainer.cfg), trainer.write_scalar

    def write_both(tag: str, value: float, step: int | None = None) -> None:
        write(tag, value, step)
        tracker.add(tag, value, step)

    trainer.write_scalar = write_both
    try:
        yield
    finally:
        tracker.close()


class _Tracker:
    """Gathers the scalars of a step, and logs them at once."""

    def __init__(self, name: str, cfg: CfgNode) -> None:
        # Imported here because upstream's Dassl, which has no such key, has no such functions.
        from dassl.utils.tools import get_rng_state, set_rng_state

        module = importlib.import_module(name)
        self._name, self._values, self._step = name, {}, None
        project = os.environ.get("WANDB_PROJECT", "mmlop")
        run, config = "/".join(Path(cfg.OUTPUT_DIR).parts[-7:]), yaml.safe_load(cfg.dump())
        before = get_rng_state()  # a tracker may draw a name for its run
        # Seeds that are stepped together are runs of one process.
        more = {"reinit": "create_new"} if name == "wandb" else {}
        begin = partial(module.init, project=project, name=run, config=config, **more)
        self._run = self._try(begin)
        set_rng_state(before)

    def add(self, tag: str, value: float, step: int | None) -> None:
        if step != self._step:
            self._flush()
        self._step = step
        self._values[tag] = value

    def close(self) -> None:
        self._flush()
        if self._run:
            self._try(self._run.finish)

    def _flush(self) -> None:
        # Not as their own count of steps, which may not go back; evaluations count epochs.
        values, self._values = {**self._values, "step": self._step}, {}
        if self._run and len(values) > 1:
            self._try(lambda: self._run.log(values))

    def _try(self, action: Callable) -> object:
        try:
            return action()
        except Exception as error:
            logger.warning("%s failed, and gets nothing more of this run: %s", self._name, error)
            self._run = None
