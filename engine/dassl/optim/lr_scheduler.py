"""Schedule the learning rate per epoch: warm-up, then steps or a cosine.

The rate is a function of the epoch number alone, so a scheduler's whole state is that number
and the base rates, and a resumed run has the same rates as an uninterrupted one.

With e the epoch, w = WARMUP_EPOCH, T = MAX_EPOCH and b a group's base rate:

    e < w    constant: WARMUP_CONS_LR         linear: WARMUP_MIN_LR at e = 0, else b e / w
    e >= w   b * decay(s, s + e - w)          s = 0, or w if not WARMUP_RECOUNT

where decay(s, t) is the schedule's decay from its epoch s to t. With WARMUP_RECOUNT off
the rate thus still starts at b, then follows the later part of the schedule (as upstream).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl.utils import check_availability

SCHEDULERS = ("single_step", "multi_step", "cosine")
WARMUPS = ("constant", "linear")

Decay = Callable[[int, int], float]


def step_decay(step_size: int, gamma: float) -> Decay:
    """Multiply by ``gamma`` once for every multiple of ``step_size`` in (s, t]."""
    return lambda s, t: gamma ** (t // step_size - s // step_size)


def multi_step_decay(milestones: list[int], gamma: float) -> Decay:
    """Multiply by ``gamma`` once for every milestone in (s, t]."""
    return lambda s, t: gamma ** sum(s < milestone <= t for milestone in milestones)


def cosine_decay(max_epoch: int) -> Decay:
    """Follow half a cosine from 1 at epoch 0 to 0 at ``max_epoch``, relative to its value at s."""

    def height(t: int) -> float:
        return 1 + math.cos(math.pi * t / max_epoch)

    return lambda s, t: height(t) / height(s)


class WarmupScheduler(LRScheduler):
    """Set the rates of the table above; call ``step()`` once per epoch."""

    def __init__(
        self,
        optimizer: Optimizer,
        decay: Decay,
        warmup_epoch: int = 0,
        warmup_rate: Callable[[int, float], float] | None = None,
        recount: bool = True,
    ) -> None:
        self._decay = decay
        self._warmup_epoch = warmup_epoch
        self._warmup_rate = warmup_rate
        self._start = 0 if recount else warmup_epoch
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """Return one rate per parameter group for the epoch ``last_epoch``."""
        past = self.last_epoch - self._warmup_epoch
        if past < 0:
            return [self._warmup_rate(self.last_epoch, base) for base in self.base_lrs]
        decay = self._decay(self._start, self._start + past)
        return [base * decay for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the base rates; the shape of the schedule is in the config."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume at the stored epoch and set the optimiser's rates to those of that epoch."""
        missing = {"last_epoch", "base_lrs"} - state_dict.keys()
        if missing or len(state_dict["base_lrs"]) != len(self.optimizer.param_groups):
            raise ValueError(
                "Expected a scheduler state with 'last_epoch' and 'base_lrs' for "
                f"{len(self.optimizer.param_groups)} parameter groups, got {state_dict}: resume "
                "with the optimizer settings of the run that wrote it."
            )
        self.last_epoch = state_dict["last_epoch"]
        self.base_lrs = list(state_dict["base_lrs"])
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> WarmupScheduler:
    """Build the schedule ``optim_cfg.LR_SCHEDULER`` with its warm-up, if WARMUP_EPOCH > 0.

    Raises:
        ValueError: LR_SCHEDULER or WARMUP_TYPE is unknown, or the warm-up leaves a cosine no epoch.
        TypeError: STEPSIZE has the wrong type.
    """
    check_availability(optim_cfg.LR_SCHEDULER, SCHEDULERS, "scheduler")
    decay = _build_decay(optim_cfg)
    warmup = optim_cfg.WARMUP_EPOCH
    if warmup <= 0:
        return WarmupScheduler(optimizer, decay)

    check_availability(optim_cfg.WARMUP_TYPE, WARMUPS, "OPTIM.WARMUP_TYPE")
    if optim_cfg.WARMUP_TYPE == "constant":
        constant = optim_cfg.WARMUP_CONS_LR

        def rate(epoch: int, base: float) -> float:
            return constant
    else:
        minimum = optim_cfg.WARMUP_MIN_LR

        def rate(epoch: int, base: float) -> float:
            return minimum if epoch == 0 else base * epoch / warmup

    return WarmupScheduler(optimizer, decay, warmup, rate, optim_cfg.WARMUP_RECOUNT)


def _build_decay(optim_cfg: CfgNode) -> Decay:
    stepsize = optim_cfg.STEPSIZE
    if optim_cfg.LR_SCHEDULER == "cosine":
        skipped = 0 if optim_cfg.WARMUP_RECOUNT else max(optim_cfg.WARMUP_EPOCH, 0)
        if skipped >= optim_cfg.MAX_EPOCH:
            raise ValueError(
                f"A cosine over MAX_EPOCH = {optim_cfg.MAX_EPOCH} epochs has no epoch left after "
                f"a warm-up of {skipped} that counts: raise MAX_EPOCH or set WARMUP_RECOUNT True."
            )
        return cosine_decay(optim_cfg.MAX_EPOCH)
    if optim_cfg.LR_SCHEDULER == "multi_step":
        if not isinstance(stepsize, (list, tuple)):
            raise TypeError(
                f"OPTIM.STEPSIZE of multi_step must be a list of epochs, got {stepsize!r}."
            )
        return multi_step_decay(list(stepsize), optim_cfg.GAMMA)
    if isinstance(stepsize, (list, tuple)):
        stepsize = stepsize[-1]
    if not isinstance(stepsize, int):
        raise TypeError(f"OPTIM.STEPSIZE of single_step must be a whole number, got {stepsize!r}.")
    return step_decay(stepsize if stepsize > 0 else optim_cfg.MAX_EPOCH, optim_cfg.GAMMA)
