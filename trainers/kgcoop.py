"""KgCoOp: CoOp, held near the frozen text features (arXiv 2303.13283)."""

import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor

from prompting import knowledge_guidance
from prompting.templates import KGCOOP_TEMPLATES
from trainers.coop import CoOp


@TRAINER_REGISTRY.register()
class KgCoOp(CoOp):
    """Trains by cross entropy, and W times the distance to the features of a hand-written template.

    Its options are those of TRAINER.COOP; published with "a photo of a" and W = 8.
    """

    templates = KGCOOP_TEMPLATES

    @property
    def guidance_weight(self) -> float:
        return self.options.W

    def frozen_templates(self) -> tuple[str, ...]:
        return (self.template(),)

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        model = self.model
        text = model.text_features(model.prompt_learner()[0])
        logits = model.logits(model.image_features(images), text)
        guidance = self.guidance_weight * knowledge_guidance(text, model.frozen_text)
        return {"loss_ce": F.cross_entropy(logits, labels), "loss_text": guidance}, logits
