"""The trainers; importing this package registers them all."""

from yacs.config import CfgNode

from trainers import ivlp, mmlop, zsclip

METHODS = (mmlop, ivlp, zsclip)


def add_config(cfg: CfgNode) -> None:
    """Add every method's node to Dassl's configuration."""
    for method in METHODS:
        method.add_config(cfg)
