"""Schedule the learning rate per epoch: warm-up, then steps or a cosine.

The rate is a function of the epoch number alone, so a resumed run has the same rates as an
uninterrupted one.

With e the epoch, w = WARMUP_EPOCH, T = MAX_EPOCH and b a group's base rate:

    e < w    constant: WARMUP_CONS_LR         linear: WARMUP_MIN_LR at e = 0, else b e / w
    e >= w   b * decay(s, s + e - w)          s = 0, or w if not WARMUP_RECOUNT

where decay(s, t) is the schedule's decay from its epoch s to t. With WARMUP_RECOUNT off
the rate thus still starts at b, then follows the later part of the schedule (as upstream).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from yacs.config import CfgNode

from dassl.utils import check_availability

SCHEDULERS = ("single_step", "multi_step", "cosine")
WARMUPS = ("constant", "linear")

Decay = Callable[[int, int], float]


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> LambdaLR:
    """Build the schedule ``optim_cfg.LR_SCHEDULER`` with its warm-up, if WARMUP_EPOCH > 0.

    Raises:
        ValueError: LR_SCHEDULER or WARMUP_TYPE is unknown, or the warm-up leaves a cosine no epoch.
        TypeError: STEPSIZE has the wrong type.
    """
    check_availability(optim_cfg.LR_SCHEDULER, SCHEDULERS, "scheduler")
    check_availability(optim_cfg.WARMUP_TYPE, WARMUPS, "OPTIM.WARMUP_TYPE")
    decay, warmup = _build_decay(optim_cfg), max(optim_cfg.WARMUP_EPOCH, 0)
    begin = 0 if optim_cfg.WARMUP_RECOUNT else warmup

    def factor(base: float) -> Callable[[int], float]:
        def at(epoch: int) -> float:
            if epoch >= warmup:
                return decay(begin, begin + epoch - warmup)
            if optim_cfg.WARMUP_TYPE == "constant":
                return optim_cfg.WARMUP_CONS_LR / base
            return optim_cfg.WARMUP_MIN_LR / base if epoch == 0 else epoch / warmup

        return at

    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    return LambdaLR(optimizer, [factor(rate or 1.0) for rate in rates])  # 0 stays 0


def _build_decay(optim_cfg: CfgNode) -> Decay:
    """Return the schedule's decay from its epoch s to t."""
    stepsize, gamma = optim_cfg.STEPSIZE, optim_cfg.GAMMA
    if optim_cfg.LR_SCHEDULER == "cosine":
        skipped = 0 if optim_cfg.WARMUP_RECOUNT else max(optim_cfg.WARMUP_EPOCH, 0)
        if skipped >= optim_cfg.MAX_EPOCH:
            raise ValueError(
                f"A cosine over MAX_EPOCH = {optim_cfg.MAX_EPOCH} epochs has no epoch left after "
                f"a warm-up of {skipped} that counts: raise MAX_EPOCH or set WARMUP_RECOUNT True."
            )

        def height(epoch: int) -> float:
            return 1 + math.cos(math.pi * epoch / optim_cfg.MAX_EPOCH)

        return lambda s, t: height(t) / height(s)
    if optim_cfg.LR_SCHEDULER == "multi_step":
        if not isinstance(stepsize, (list, tuple)):
            raise TypeError(
                f"OPTIM.STEPSIZE of multi_step must be a list of epochs, got {stepsize!r}."
            )
        return lambda s, t: gamma ** sum(s < milestone <= t for milestone in stepsize)
    if isinstance(stepsize, (list, tuple)):
        stepsize = stepsize[-1]
    if not isinstance(stepsize, int):
        raise TypeError(f"OPTIM.STEPSIZE of single_step must be a whole number, got {stepsize!r}.")
    size = stepsize if stepsize > 0 else optim_cfg.MAX_EPOCH
    return lambda s, t: gamma ** (t // size - s // size)
