"""Build optimisers by name."""

from __future__ import annotations

import warnings
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
        ValueError: the optimiser is unknown, or a name in NEW_LAYERS is not a child of ``model``.
        TypeError: STAGED_LR is set without a module.
    """
    check_availability(optim_cfg.NAME, OPTIMIZERS, "optimizer")
    params = _select_params(model, optim_cfg, param_groups)
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


def _select_params(
    model: nn.Module | Iterable[Any], optim_cfg: CfgNode, param_groups: Iterable[Any] | None
) -> Iterable[Any]:
    """Return what the optimiser is to change: the given groups, staged groups or all parameters."""
    if param_groups is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn(
                "OPTIM.STAGED_LR is ignored because param_groups are given: set 'lr' in them.",
                stacklevel=3,
            )
        return param_groups
    if optim_cfg.STAGED_LR:
        return _staged_groups(model, optim_cfg)
    return model.parameters() if isinstance(model, nn.Module) else model


def _staged_groups(model: Any, optim_cfg: CfgNode) -> list[dict[str, Any]]:
    """Return two groups: NEW_LAYERS at LR and everything else at LR * BASE_LR_MULT."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            "OPTIM.STAGED_LR needs the module itself to find its layers, got "
            f"{type(model).__name__}: pass the module, or param_groups with their own lr."
        )
    if isinstance(model, nn.DataParallel):
        model = model.module
    new_layers = optim_cfg.NEW_LAYERS
    new_layers = [new_layers] if isinstance(new_layers, str) else list(new_layers)
    children = dict(model.named_children())
    for name in new_layers:
        check_availability(name, children, "layer in OPTIM.NEW_LAYERS")
    new = [p for name in new_layers for p in children[name].parameters()]
    new_ids = {id(p) for p in new}
    base = [p for p in model.parameters() if id(p) not in new_ids]
    return [{"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]
