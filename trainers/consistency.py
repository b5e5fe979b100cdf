"""The self-regulating consistency terms of a step, as PromptSRC and MMLoP train with them."""

import torch
from torch import Tensor

from prompting import PromptedCLIP, SCLWeights, self_regulating_consistency


def consistency_terms(
    model: PromptedCLIP,
    embedded: Tensor,
    image: Tensor,
    text: Tensor,
    logits: Tensor,
    weights: SCLWeights,
    logits_loss: str,
) -> dict[str, Tensor]:
    """Return the weighted terms by name; the frozen CLIP sees the same images.

    Args:
        model: built with templates.
        embedded: the images, as `model.embed` gives them.
        image, text: prompted features (B, D) and (C, D), normalised.
        logits: (B, C).
        weights: of the three terms.
        logits_loss: symmetric_kl (MMLoP) or kl (PromptSRC).
    """
    with torch.no_grad():
        frozen_image = model.image_features(embedded)
        frozen_logits = model.logits(frozen_image, model.frozen_text)
    terms = self_regulating_consistency(
        image, frozen_image, text, model.frozen_text, logits, frozen_logits, logits_loss
    )
    return {f"loss_{name}": weights[i] * terms[i] for i, name in enumerate(terms._fields)}
