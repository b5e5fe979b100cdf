"""Build the default configuration (a yacs tree)."""

from yacs.config import CfgNode

from .defaults import build_defaults

__all__ = ["clean_cfg", "get_cfg_default"]


def get_cfg_default() -> CfgNode:
    """Return a fresh, unfrozen tree; a trainer adds its own node under ``TRAINER``."""
    return build_defaults()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop the nodes of all other trainers from ``cfg.TRAINER``, in place."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", trainer.upper()):
            del cfg.TRAINER[key]
