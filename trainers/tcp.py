"""TCP: class-aware prompts made from the frozen text features (arXiv 2311.18231)."""

import torch
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from prompting import PromptedCLIP, frozen_text_features
from prompting.class_aware import ClassAwarePrompts
from prompting.templates import TCP_ENDINGS, TCP_TEMPLATES
from trainers.kgcoop import KgCoOp


def add_config(cfg: CfgNode) -> None:
    """Add a key of ours to TRAINER.COOP, which TCP's code base uses for the other options too."""
    cfg.TRAINER.COOP.TCP_LAYER = 9  # where the class-aware prompts enter; fixed in TCP's code


@TRAINER_REGISTRY.register()
class TCP(KgCoOp):
    """Trained like KgCoOp, with its own templates."""

    guidance_weight = 8.0  # fixed in TCP's code
    templates = TCP_TEMPLATES
    training_only = ("PREC", "W", "ALPHA")  # its prompts are made of the template's features

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        layers = len(self.backbone.text.blocks)
        if not 2 <= options.TCP_LAYER <= layers:
            raise ValueError(
                f"TRAINER.COOP.TCP_LAYER is {options.TCP_LAYER}: with this backbone it must be "
                f"between 2 and {layers}."
            )
        if options.CSC:
            raise ValueError("TCP has one context for all classes: set TRAINER.COOP.CSC False.")
        words, context = self.initial_context(len(classnames), generator)
        frozen_text = frozen_text_features(self.backbone, classnames, self.frozen_templates())
        prompt_learner = ClassAwarePrompts(context, options.TCP_LAYER, frozen_text, generator)
        template = f"{words} {self._ending()}"
        model = PromptedCLIP(self.backbone, prompt_learner.to(self.device), classnames, template)
        model.frozen_text = prompt_learner.frozen_text
        model.templates = self.frozen_templates()
        return model

    def _ending(self) -> str:
        """Return what stands behind the context: the rest of a template that was given."""
        if self.options.TEMPLATE:
            return "{}" + self.options.TEMPLATE.partition("{}")[2]
        return TCP_ENDINGS.get(self.cfg.DATASET.NAME, "{}.")
