"""PromptSRC: free prompts held to the frozen CLIP, averaged over the epochs (arXiv 2307.06948)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor
from yacs.config import CfgNode

from prompting import Consistency
from prompting.templates import ENSEMBLE
from trainers.consistency import consistency_terms
from trainers.ivlp import IVLP, prompt_options


def add_config(cfg: CfgNode) -> None:
    """The node TRAINER.PROMPTSRC, with the keys and defaults of its code base."""
    node = cfg.TRAINER.PROMPTSRC = prompt_options(tokens=4)
    node.TEXT_LOSS_WEIGHT = 25.0
    node.IMAGE_LOSS_WEIGHT = 10.0
    node.GPA_MEAN = 15.0  # epoch that weighs most in the average of the prompts
    node.GPA_STD = 1.0  # standard deviation of the epochs' weights, in epochs


def epoch_weights(mean: float, std: float, epochs: int) -> Tensor:
    """Weights of epochs 1..N, a Gaussian that sums to one (PromptSRC, section 3.3), (N,) fp64."""
    distance = (torch.arange(1, epochs + 1, dtype=torch.float64) - mean) / std
    return torch.softmax(-0.5 * distance.square(), dim=0)


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    """IVLP's prompts with self-regulating consistency and Gaussian prompt aggregation (GPA)."""

    node = "PROMPTSRC"
    training_only = ("PREC", "TEXT_LOSS_WEIGHT", "IMAGE_LOSS_WEIGHT", "GPA_MEAN", "GPA_STD")
    templates = ENSEMBLE
    aggregate: Mapping[str, Tensor] | None = None  # weighted sum of the prompts of past epochs

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        options, model = self.options, self.model
        text_prompts, vision_prompts = model.learner()
        embedded = model.embed(images)
        image = model.image_features(embedded, vision_prompts)
        text = model.text_features(text_prompts)
        logits = model.logits(image, text)
        weights = Consistency(options.IMAGE_LOSS_WEIGHT, options.TEXT_LOSS_WEIGHT, logits=1.0)
        terms = consistency_terms(model, embedded, image, text, logits, weights)
        return {"loss_ce": F.cross_entropy(logits, labels), **terms}, logits

    def after_epoch(self) -> None:
        """Add this epoch's prompts to the average; the last epoch ends with the average itself."""
        options, learner = self.options, self.model.learner
        weights = epoch_weights(options.GPA_MEAN, options.GPA_STD, self.max_epoch)
        weight = weights[self.epoch].item()
        now = {key: weight * value for key, value in learner.state_dict().items()}
        past = self.aggregate or {}
        self.aggregate = {key: value + past.get(key, 0) for key, value in now.items()}
        if self.epoch + 1 == self.max_epoch:
            learner.load_state_dict(self.aggregate)
        super().after_epoch()

    def extra_state(self) -> dict:
        return {} if self.aggregate is None else {"aggregate": dict(self.aggregate)}

    def load_extra_state(self, state: Mapping) -> None:
        past = state.get("aggregate")
        self.aggregate = past and {key: value.to(self.device) for key, value in past.items()}
