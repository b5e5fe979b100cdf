"""PromptSRC: IVLP's prompts held to the frozen CLIP and averaged (arXiv 2307.06948)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor
from yacs.config import CfgNode

from prompting import SCLWeights
from prompting.templates import IMAGENET_TEMPLATES
from trainers.ivlp import IVLP, prompt_options


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.PROMPTSRC, with the keys and defaults of its code base."""
    node = cfg.TRAINER.PROMPTSRC = prompt_options(tokens=4)
    node.TEXT_LOSS_WEIGHT = 25.0
    node.IMAGE_LOSS_WEIGHT = 10.0
    node.GPA_MEAN = 15.0  # epoch that weighs most in the average of the prompts
    node.GPA_STD = 1.0  # standard deviation of the epochs' weights, in epochs


def epoch_weights(mean: float, std: float, epochs: int) -> Tensor:
    """Return weights (N,) of epochs 1..N, a Gaussian that sums to one (PromptSRC, section 3.3)."""
    distance = (torch.arange(1, epochs + 1, dtype=torch.float64) - mean) / std
    return torch.softmax(-0.5 * distance.square(), dim=0)


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    """Trains IVLP's prompts with consistency and Gaussian prompt aggregation (GPA)."""

    node = "PROMPTSRC"
    training_only = ("PREC", "TEXT_LOSS_WEIGHT", "IMAGE_LOSS_WEIGHT", "GPA_MEAN", "GPA_STD")
    templates = IMAGENET_TEMPLATES
    aggregate: Mapping[str, Tensor] | None = None  # weighted sum of the prompts of past epochs

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        options, model = self.options, self.model
        text_prompts, vision_prompts = model.prompt_learner()
        embedded = model.embed(images)
        image = model.image_features(embedded, vision_prompts)
        text = model.text_features(text_prompts)
        logits = model.logits(image, text)
        weights = SCLWeights(options.IMAGE_LOSS_WEIGHT, options.TEXT_LOSS_WEIGHT, logits=1.0)
        terms = weights.weigh(model.consistency(embedded, image, text, logits, "kl"))
        return {"loss_ce": F.cross_entropy(logits, labels), **terms}, logits

    def after_epoch(self) -> None:
        """Add this epoch's prompts to the average; the last epoch ends with the average itself."""
        options, prompt_learner = self.options, self.model.prompt_learner
        weights = epoch_weights(options.GPA_MEAN, options.GPA_STD, self.max_epoch)
        weight = weights[self.epoch].item()
        now = {key: weight * value for key, value in prompt_learner.state_dict().items()}
        past = self.aggregate or {}
        self.aggregate = {key: value + past.get(key, 0) for key, value in now.items()}
        if self.epoch + 1 == self.max_epoch:
            prompt_learner.load_state_dict(self.aggregate)
        super().after_epoch()

    def extra_state(self) -> dict:
        return {} if self.aggregate is None else {"aggregate": dict(self.aggregate)}

    def load_extra_state(self, state: Mapping) -> None:
        past = state.get("aggregate")
        self.aggregate = past and {key: value.to(self.device) for key, value in past.items()}
