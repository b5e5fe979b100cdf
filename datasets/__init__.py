"""The data sets, one loader a file; importing this package registers them in DATASET_REGISTRY."""

from yacs.config import CfgNode

from datasets import caltech101, shapeworld

__all__ = ["add_config", "caltech101", "shapeworld"]


def add_config(cfg: CfgNode) -> None:
    """Add the family's key for the classes to use: all, base (first half) or new (second half)."""
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
