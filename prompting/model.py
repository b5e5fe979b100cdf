"""A CLIP classifier with prompts in its towers, and the frozen CLIP next to it.

Letters: B images, C classes, D joint width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompting.backbone import Backbone
from prompting.errors import ArgumentError, check_list, counted
from prompting.feature_cache import cached
from prompting.image_encoder import embed_image, encode_image
from prompting.losses import SCLTerms, self_regulating_consistency, uniform_drift_correction
from prompting.openai_towers import ImageTower, TextTower
from prompting.precision import autocast
from prompting.prompts import placeholders
from prompting.templates import class_prompts
from prompting.text_encoder import (
    TokenizedPrompts,
    check_prompts,
    encode_text,
    encode_texts,
    move_classnames,
    tokenize,
)
from prompting.tokenizer import Tokenizer


class PromptedCLIP(nn.Module):
    """Classifies images by class names, with learnable prompts in front of them.

    Args:
        backbone: the frozen CLIP.
        prompt_learner: a module that returns the prompts of the text tower and of the image tower,
            as `encode_text` and `encode_image` take them; the only part with gradients.
        classnames: C of them.
        template: the text around a class name, such as "a photo of a {}."; the prompts replace its
            first tokens.
        templates: those whose features are averaged into the frozen text features; empty where
            these are not needed.
        drift_correction: classify with drift-corrected text features.
        position: where the class name stands: behind the prompt ("end"), in its "middle", or in
            "front" of it (CoOp).

    Raises:
        ValueError: vision prompts for a backbone without a transformer image tower, a class name
            too long.
        ArgumentError: prompts that would replace the class name, are of other classes, or of more
            layers than the tower has; a text for a list of texts, a class name without a token, an
            unknown position.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompt_learner: nn.Module,
        classnames: Sequence[str],
        template: str,
        templates: Sequence[str] = (),
        drift_correction: bool = False,
        position: str = "end",
    ) -> None:
        super().__init__()
        if drift_correction and not templates:
            raise ValueError("Drift correction needs frozen text features: give templates.")
        text, vision = prompt_learner()
        if len(vision):
            _check_depth(vision, backbone.image, "image")
        _check_depth(text, backbone.text, "text")
        self.backbone, self.clip = backbone, backbone.model
        self.precision, self.device = backbone.precision, backbone.device
        self.prompt_learner = prompt_learner
        self.drift_correction = drift_correction
        self.classnames, self.template, self.position = tuple(classnames), template, position
        self.templates, self.ensemble = tuple(templates), ()
        tokenized = _tokenize(classnames, template, text, position, backbone.tokenizer)
        self.tokenized_prompts = tokenized.to(self.device)
        self.logit_scale = self.clip.logit_scale.exp().float()
        self.frozen_text = None
        if templates:
            self.frozen_text = frozen_text_features(backbone, classnames, templates)
        self._fixed_text: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, C) of images (B, 3, H, W)."""
        text_prompts, vision_prompts = self.prompt_learner()
        image = self.image_features(images, vision_prompts)
        text = self._fixed_text
        if text is None:
            text = self.correct(self.text_features(text_prompts))
        return self.logits(image, text)

    def embed(self, images: Tensor) -> Tensor:
        """Return what `image_features` takes in place of images (B, 3, H, W) that it sees twice."""
        with autocast(self.precision, self.device):
            return embed_image(self.clip, images)

    def image_features(self, images: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
        """Return normalised features (B, D), fp32; without prompts those of the frozen CLIP."""
        with autocast(self.precision, self.device):
            features = self.encode_image(images, prompts)
        return F.normalize(features.float(), dim=-1)

    def text_features(self, prompts: Sequence[Tensor | None]) -> Tensor:
        """Return normalised features g (C, D), fp32, before drift correction.

        With prompts that differ between the images they are (B, C, D).
        """
        with autocast(self.precision, self.device):
            features = self.encode_text(prompts)
        return F.normalize(features.float(), dim=-1)

    def encode_image(self, images: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        """Return features (B, D) as the image tower gives them; a method may change the tower."""
        return encode_image(self.clip, images, prompts)

    def encode_text(self, prompts: Sequence[Tensor | None]) -> Tensor:
        """Return features (C, D) as the text tower gives them; a method may change the tower."""
        return encode_text(self.clip, self.tokenized_prompts, prompts)

    def correct(self, text: Tensor) -> Tensor:
        """Return the text features that classify: drift-corrected where that is on."""
        if not self.drift_correction:
            return text
        return uniform_drift_correction(text, self.frozen_text)

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the scaled cosine similarities (B, C) of image (B, D) with text (C, D)."""
        return self.logit_scale * image @ text.T

    def consistency(
        self,
        embedded: Tensor,
        image: Tensor,
        text: Tensor,
        logits: Tensor,
        logits_loss: str = "symmetric_kl",
    ) -> SCLTerms:
        """Return the self-regulating consistency of a step; the frozen CLIP sees the same images.

        Args:
            embedded: the images, as `embed` gives them.
            image, text: prompted features (B, D) and (C, D), normalised.
            logits: (B, C).
            logits_loss: symmetric_kl (MMLoP) or kl (PromptSRC).
        """
        with torch.no_grad():
            frozen_image = self.image_features(embedded)
            frozen_logits = self.logits(frozen_image, self.frozen_text)
        return self_regulating_consistency(
            image, frozen_image, text, self.frozen_text, logits, frozen_logits, logits_loss
        )

    def fix_text(self, features: Tensor | None) -> None:
        """Classify by these text features (C, D) from now on; None: encode the text again."""
        self._fixed_text = None if features is None else features.detach()

    def fix_ensemble(self, templates: Sequence[str]) -> None:
        """Classify by the frozen CLIP's normalised text features, averaged over templates."""
        self.ensemble = tuple(templates)
        features = frozen_text_features(self.backbone, self.classnames, templates, normalize=True)
        self.fix_text(features)

    @torch.no_grad()
    def text_classifier(self) -> Tensor | None:
        """Return the text features (C, D) that classify; None where each image has its own."""
        if self._fixed_text is not None:
            return self._fixed_text
        return self.correct(self.text_features(self.prompt_learner()[0]))

    @contextmanager
    def fixed_text(self) -> Iterator[None]:
        """Encode the text once: nothing it depends on changes within an evaluation."""
        before = self._fixed_text
        self.fix_text(self.text_classifier())
        try:
            yield
        finally:
            self.fix_text(before)


def frozen_text_features(
    backbone: Backbone, classnames: Sequence[str], templates: Sequence[str], normalize: bool = False
) -> Tensor:
    """Encode the class names by the frozen CLIP, averaged over the templates: (C, D), normalised.

    The features, in fp32, are kept on disk for the next run, see `feature_cache.py`.

    Args:
        normalize: average normalised features (CLIP's and CoOp's ensembles) instead of those that
            the tower gives (PromptSRC).

    Raises:
        ArgumentError: no template, or a text for a list of texts.
    """
    check_list("templates", templates)
    if not templates:
        raise ArgumentError("templates", "is empty: give one at least.")
    key = {
        "backbone": backbone.sha256,
        "precision": backbone.precision,
        "names": list(classnames),
        "templates": list(templates),
        "normalize": normalize,
    }
    compute = partial(_frozen_text_features, backbone, classnames, templates, normalize)
    return cached(key, backbone.device, compute)


def _frozen_text_features(
    backbone: Backbone, classnames: Sequence[str], templates: Sequence[str], normalize: bool
) -> Tensor:
    with autocast(backbone.precision, backbone.device):
        # Template by template: its texts share the words in front of the class names.
        parts = [
            encode_texts(backbone.model, class_prompts(classnames, t), tokenizer=backbone.tokenizer)
            for t in templates
        ]
    features = torch.stack(parts).float()
    if normalize:
        features = F.normalize(features, dim=-1)
    return F.normalize(features.mean(dim=0), dim=-1)


def _tokenize(
    classnames: Sequence[str],
    template: str,
    prompts: Sequence[Tensor],
    position: str,
    tokenizer: Tokenizer,
) -> TokenizedPrompts:
    """Tokenise one text per class, whose first tokens are the slots of the text prompts."""
    texts, names = class_prompts(classnames, template), class_prompts(classnames, "{}")
    tokens = next((prompt.shape[-2] for prompt in prompts if prompt is not None), 0)
    tokenized = tokenize(texts, tokens, tokenizer)
    check_prompts(tokenized, prompts)
    lengths = tokenizer.words(tokenizer.encode(names)).tolist()
    for name, length in zip(names, lengths, strict=True):
        if not length:
            raise ArgumentError("classnames", f"holds {name!r}, which has no token.")
    words = template.partition("{}")[0]
    before = tokenizer.count(words)
    if before < tokens:
        raise ArgumentError(
            "template",
            f'is "{template}", with {counted(before, "token")} before the class name, which the '
            f"{counted(tokens, 'prompt token')} would replace: begin it with "
            f'"{placeholders(tokens)}".',
        )
    replaced = slice(tokenizer.lead + tokens)
    if (tokenized.tokens[:, replaced] != tokenizer.encode([words])[:, replaced]).any():
        raise ArgumentError(
            "template", f'is "{template}", which runs into the class name: put a space before it.'
        )
    return move_classnames(tokenized, names, position, tokenizer)


def _check_depth(
    prompts: Sequence[Tensor | None], tower: TextTower | ImageTower, name: str
) -> None:
    """Refuse prompts for layers that a tower does not have: nothing would train them."""
    layers = len(tower.blocks)
    if len(prompts) > layers:
        raise ArgumentError(
            "prompt_learner",
            f"has prompts for {len(prompts)} layers of the {name} tower, which has {layers}: give "
            f"at most {layers}.",
        )
