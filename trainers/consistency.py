"""The self-regulating consistency terms of a step, as PromptSRC and MMLoP train with them."""

import torch
from torch import Tensor

from prompting import Consistency, PromptedCLIP, consistency


def consistency_terms(
    model: PromptedCLIP,
    embedded: Tensor,
    image: Tensor,
    text: Tensor,
    logits: Tensor,
    weights: Consistency,
) -> dict[str, Tensor]:
    """The weighted terms by name; the frozen CLIP sees the same images.

    Args:
        model: built with templates.
        embedded: the images, as `model.embed` gives them.
        image, text: prompted features (B, D) and (C, D), normalised.
        logits: (B, C).
        weights: of the three terms.
    """
    with torch.no_grad():
        frozen_image = model.image_features(embedded)
        frozen_logits = model.logits(frozen_image, model.frozen_text)
    term = consistency(image, frozen_image, text, model.frozen_text, logits, frozen_logits)
    return {f"loss_{name}": weights[i] * term[i] for i, name in enumerate(Consistency._fields)}
