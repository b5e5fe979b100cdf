"""The trainers; importing this package registers them all."""

from importlib import import_module

from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

NAMES = (
    "mmlop", "zsclip", "coop", "cocoop", "kgcoop", "prograd", "vpt", "ivlp", "maple", "promptsrc",
    "tcp", "mma", "clip_lora", "tip_adapter", "clip_adapter", "taskres", "lp_plus_plus", "mmrl",
    "two_stage", "coprompt",
)  # fmt: skip
METHODS = [import_module(f"trainers.{name}") for name in NAMES]


def add_config(cfg: CfgNode) -> None:
    """Add every method's node to Dassl's configuration."""
    for method in METHODS:
        if hasattr(method, "add_config"):  # KgCoOp has no node
            method.add_config(cfg)


def requires_training(trainer: str) -> bool:
    """Return whether a method is trained, as its class says; one that is not known here is."""
    if trainer not in TRAINER_REGISTRY.registered_names():
        return True
    return getattr(TRAINER_REGISTRY.get(trainer), "requires_training", True)
