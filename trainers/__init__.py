"""The trainers; importing this package registers them all."""

from yacs.config import CfgNode

from trainers import (
    cocoop,
    coop,
    ivlp,
    kgcoop,
    maple,
    mma,
    mmlop,
    prograd,
    promptsrc,
    tcp,
    vpt,
    zsclip,
)

METHODS = (
    mmlop, zsclip, coop, cocoop, kgcoop, prograd, vpt, ivlp, maple, promptsrc, tcp, mma,
)  # fmt: skip


def add_config(cfg: CfgNode) -> None:
    """Add every method's node to Dassl's configuration."""
    for method in METHODS:
        if hasattr(method, "add_config"):  # KgCoOp has no node of its own
            method.add_config(cfg)
