"""MultiModalAdapter (MMA): adapters in both towers that share their middle (CVPR 2024)."""

import torch
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from prompting import PromptedCLIP
from prompting.adapters import AdaptedCLIP, Adapters
from trainers.base import PromptTrainer


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.MMADAPTER, with the keys and defaults of MMA's code base."""
    node = cfg.TRAINER.MMADAPTER = CfgNode()
    node.TEXT_CTX_INIT = ""  # words before the class name
    node.ADAPTER_START = 4  # first layer with adapters, counted from 1
    node.ADAPTER_END = 12  # last layer with adapters
    node.ADAPTER_DIM = 32  # width of the bottleneck
    node.ADAPTER_SCALE = 0.1  # what their output is multiplied by
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (MMA's own default is amp)


@TRAINER_REGISTRY.register()
class MultiModalAdapter(PromptTrainer):
    """Trains adapters in both towers by cross entropy."""

    node = "MMADAPTER"

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        towers = (self.backbone.text, self.backbone.image)
        first, last = options.ADAPTER_START, options.ADAPTER_END
        deepest = min(len(tower.blocks) for tower in towers)
        if not 1 <= first <= last <= deepest:
            raise ValueError(
                f"ADAPTER_START {first} and ADAPTER_END {last} must be in this order between 1 "
                f"and {deepest}, the layers of this backbone."
            )
        prompt_learner = Adapters(
            tuple(tower.width for tower in towers),
            range(first, last + 1),
            options.ADAPTER_DIM,
            options.ADAPTER_SCALE,
            generator,
        )
        words = options.TEXT_CTX_INIT.replace("_", " ").strip()
        return AdaptedCLIP(self.backbone, prompt_learner, classnames, f"{words} {{}}.".strip())
