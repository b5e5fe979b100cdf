"""Build optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.utils import check_availability

OPTIMIZERS = ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw")


def build_optimizer(
    model: nn.Module | Iterable[Any],
    optim_cfg: CfgNode,
    param_groups: Iterable[Any] | None = None,
) -> torch.optim.Optimizer:
    """Build the optimiser ``optim_cfg.NAME``.

    Args:
        model: a module, or an iterable of parameters or parameter groups. All parameters of a
            module are passed on, as in upstream; frozen ones have no gradient, so they are
            neither changed nor decayed and have no state.
        optim_cfg: the node ``cfg.OPTIM``.
        param_groups: used instead of ``model`` if given.

    Raises:
        ValueError: the optimiser is unknown, or STAGED_LR is set.
    """
    check_availability(optim_cfg.NAME, OPTIMIZERS, "optimizer")
    if optim_cfg.STAGED_LR:
        raise ValueError(
            "OPTIM.STAGED_LR is not supported: set it False, and pass param_groups with an lr."
        )
    params = model if param_groups is None else param_groups
    if isinstance(params, nn.Module):
        params = params.parameters()
    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    if optim_cfg.NAME == "sgd":
        return torch.optim.SGD(
            params,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
            **common,
        )
    if optim_cfg.NAME == "rmsprop":
        return torch.optim.RMSprop(
            params, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **common
        )
    if optim_cfg.NAME == "radam":
        # Upstream's own RAdam shrinks the weights directly, not through the gradient.
        return torch.optim.RAdam(params, betas=betas, decoupled_weight_decay=True, **common)
    if optim_cfg.NAME == "adamw":
        return torch.optim.AdamW(params, betas=betas, **common)
    return torch.optim.Adam(params, betas=betas, amsgrad=optim_cfg.NAME == "amsgrad", **common)
