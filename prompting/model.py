"""A CLIP classifier with prompts in its towers, and the frozen CLIP beside it.

Letters: B images, C classes, D joint width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompting.backbone import Backbone, require_transformer
from prompting.cache import cached
from prompting.image import embed_image, encode_image
from prompting.precision import autocast
from prompting.regularizers import correct_drift
from prompting.templates import class_prompts
from prompting.text import Sentences, encode_text, encode_texts, move_names, tokenize


class PromptedCLIP(nn.Module):
    """Classifies images by class names, with learnable prompts in front of them.

    Args:
        backbone: the frozen CLIP.
        learner: a module that returns the prompts of the text tower and of the image tower, as
            `encode_text` and `encode_image` take them; the only part with gradients.
        names: the C class names.
        template: the sentence around a class name, such as "a photo of a {}."; the prompts replace
            its first tokens.
        templates: sentences whose features are averaged into the frozen text features; empty where
            these are not needed.
        drift_correction: classify with drift-corrected text features.
        position: where the class name stands: behind the prompt ("end"), in its "middle", or in
            "front" of it (CoOp).

    Raises:
        ValueError: vision prompts for a backbone without a transformer image tower, a class name
            too long, an unknown position.
    """

    def __init__(
        self,
        backbone: Backbone,
        learner: nn.Module,
        names: Sequence[str],
        template: str,
        templates: Sequence[str] = (),
        drift_correction: bool = False,
        position: str = "end",
    ) -> None:
        super().__init__()
        if drift_correction and not templates:
            raise ValueError("Drift correction needs frozen text features: give templates.")
        text, vision = learner()
        if len(vision):
            require_transformer(backbone)
        self.clip = backbone.model
        self.precision, self.device = backbone.precision, backbone.device
        self.learner = learner
        self.drift_correction = drift_correction
        self.sentences = _sentences(names, template, text, position).to(self.device)
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

    def embed(self, images: Tensor) -> Tensor:
        """What `image_features` takes in place of images (B, 3, H, W) that it sees twice."""
        with autocast(self.precision, self.device):
            return embed_image(self.clip, images)

    def image_features(self, images: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
        """Normalised features (B, D), fp32; without prompts those of the frozen CLIP."""
        with autocast(self.precision, self.device):
            features = encode_image(self.clip, images, prompts)
        return F.normalize(features.float(), dim=-1)

    def text_features(self, prompts: Sequence[Tensor | None]) -> Tensor:
        """Normalised features g (C, D), or (B, C, D) with prompts that differ between the images;
        fp32, before drift correction."""
        with autocast(self.precision, self.device):
            features = encode_text(self.clip, self.sentences, prompts)
        return F.normalize(features.float(), dim=-1)

    def correct(self, text: Tensor) -> Tensor:
        """The text features that classify: drift-corrected where that is on, else unchanged."""
        return correct_drift(text, self.frozen_text) if self.drift_correction else text

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Scaled cosine similarities (B, C) of image (B, D) with text (C, D)."""
        return self.logit_scale * image @ text.T

    def fix_text(self, features: Tensor | None) -> None:
        """Classify by these text features (C, D) from now on; None: encode the text again."""
        self._fixed_text = None if features is None else features.detach()

    @contextmanager
    def fixed_text(self) -> Iterator[None]:
        """Within it the text is encoded once: nothing it depends on changes in an evaluation."""
        before = self._fixed_text
        if before is None:
            with torch.no_grad():
                self.fix_text(self.correct(self.text_features(self.learner()[0])))
        try:
            yield
        finally:
            self.fix_text(before)


def frozen_text_features(
    backbone: Backbone, names: Sequence[str], templates: Sequence[str], normalize: bool = False
) -> Tensor:
    """Text features of the frozen CLIP, averaged over the templates: (C, D), fp32, normalised.

    They are kept on disk for the next run, see `prompting/cache.py`.

    Args:
        normalize: average normalised features (CLIP's and CoOp's ensembles) instead of those that
            the tower gives (PromptSRC).
    """
    key = {
        "backbone": backbone.sha256,
        "precision": backbone.precision,
        "names": list(names),
        "templates": list(templates),
        "normalize": normalize,
    }
    shape = (len(names), backbone.model.text_projection.shape[1])
    compute = partial(_frozen_text_features, backbone, names, templates, normalize)
    return cached(key, shape, backbone.device, compute)


def _frozen_text_features(
    backbone: Backbone, names: Sequence[str], templates: Sequence[str], normalize: bool
) -> Tensor:
    with autocast(backbone.precision, backbone.device):
        # Template by template: its sentences share the words in front of the class names.
        parts = [encode_texts(backbone.model, class_prompts(names, t)) for t in templates]
    features = torch.stack(parts).float()
    if normalize:
        features = F.normalize(features, dim=-1)
    return F.normalize(features.mean(dim=0), dim=-1)


def _sentences(
    names: Sequence[str], template: str, prompts: Sequence[Tensor], position: str
) -> Sentences:
    """A sentence a class, whose first tokens are the slots of the text prompts."""
    tokens = prompts[0].shape[-2] if len(prompts) else 0
    sentences = tokenize(class_prompts(names, template), tokens)
    return move_names(sentences, class_prompts(names, "{}"), position)
