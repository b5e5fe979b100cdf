"""A CLIP classifier with prompts in both towers, and the frozen CLIP beside it.

Letters: B images, C classes, D joint width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompting.backbone import Backbone, require_transformer
from prompting.image import encode_image
from prompting.precision import autocast
from prompting.regularizers import correct_drift
from prompting.templates import class_prompts
from prompting.text import encode_text, encode_texts, tokenize


class PromptedCLIP(nn.Module):
    """Classifies images by class names, with learnable prompts in front of them.

    Args:
        backbone: the frozen CLIP.
        learner: a module that returns text prompts (J_t, T, d_t) and vision prompts (J_v, T, d_v);
            the only part with gradients.
        names: the C class names.
        template: the sentence around a class name, such as "a photo of a {}."; the prompts replace
            its first tokens.
        templates: sentences whose features are averaged into the frozen text features; empty where
            these are not needed.
        drift_correction: classify with drift-corrected text features.

    Raises:
        ValueError: prompts for a backbone without a transformer image tower, a class name too long.
    """

    def __init__(
        self,
        backbone: Backbone,
        learner: nn.Module,
        names: Sequence[str],
        template: str,
        templates: Sequence[str] = (),
        drift_correction: bool = False,
    ) -> None:
        super().__init__()
        if any(True for _ in learner.parameters()):
            require_transformer(backbone)
        if drift_correction and not templates:
            raise ValueError("Drift correction needs frozen text features: give templates.")
        self.clip = backbone.model
        self.precision, self.device = backbone.precision, backbone.device
        self.learner = learner
        self.drift_correction = drift_correction
        sentences = class_prompts(names, template)
        self.sentences = tokenize(sentences, _text_tokens(learner)).to(self.device)
        self.logit_scale = self.clip.logit_scale.exp().float()
        self.frozen_text = frozen_text_features(backbone, names, templates) if templates else None
        self._fixed_text: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W)."""
        text_prompts, vision_prompts = self.learner()
        image = self.image_features(images, vision_prompts)
        text = self._fixed_text
        if text is None:
            text = self.correct(self.text_features(text_prompts))
        return self.logits(image, text)

    def image_features(self, images: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Normalised features (B, D), fp32; without prompts those of the frozen CLIP."""
        with autocast(self.precision, self.device):
            features = encode_image(self.clip, images, prompts)
        return F.normalize(features.float(), dim=-1)

    def text_features(self, prompts: Tensor) -> Tensor:
        """Normalised features g (C, D), fp32, before drift correction."""
        with autocast(self.precision, self.device):
            features = encode_text(self.clip, self.sentences, prompts)
        return F.normalize(features.float(), dim=-1)

    def correct(self, text: Tensor) -> Tensor:
        """The text features that classify: drift-corrected where that is on, else unchanged."""
        return correct_drift(text, self.frozen_text) if self.drift_correction else text

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Scaled cosine similarities (B, C)."""
        return self.logit_scale * image @ text.T

    @contextmanager
    def fixed_text(self) -> Iterator[None]:
        """Within it the text is encoded once: nothing it depends on changes in an evaluation."""
        with torch.no_grad():
            self._fixed_text = self.correct(self.text_features(self.learner()[0]))
        try:
            yield
        finally:
            self._fixed_text = None


def frozen_text_features(
    backbone: Backbone, names: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """Text features of the frozen CLIP: the normalised mean, over the templates, of the
    unnormalised features (PromptSRC). Returns (C, D), fp32."""
    # Template by template, so that the sentences of a chunk share their first words.
    texts = [text for template in templates for text in class_prompts(names, template)]
    with autocast(backbone.precision, backbone.device):
        features = encode_texts(backbone.model, texts).float()
    return F.normalize(features.view(len(templates), len(names), -1).mean(dim=0), dim=-1)


def _text_tokens(learner: nn.Module) -> int:
    with torch.no_grad():
        text = learner()[0]
    return text.shape[1] if len(text) else 0
