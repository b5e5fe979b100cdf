"""The prompted image encoder over an unmodified CLIP.

Letters: B images, N patches, T prompt tokens, J prompted layers, d width, D joint width.
"""

import torch
from clip.model import CLIP, VisionTransformer
from torch import Tensor

from prompting.blocks import run_block


def encode_image(model: CLIP, images: Tensor, prompts: Tensor | None = None) -> Tensor:
    """Features of the images, not normalised: (B, D) in the model's dtype.

    Args:
        images: (B, 3, H, W), normalised, at the model's resolution.
        prompts: (J, T, d). Layer 1 appends T tokens behind the patches, after the positional
            embedding and before `ln_pre`; layers 2..J overwrite them at their input; deeper layers
            keep what flows through (IVLP, MaPLe's code base). None or J = 0 gives CLIP's own
            features; a ResNet tower takes nothing else.
    """
    visual = model.visual
    if not isinstance(visual, VisionTransformer):
        return model.encode_image(images)
    x = visual.conv1(images.type(model.dtype)).flatten(2).transpose(1, 2)  # (B, N, d)
    x = torch.cat([visual.class_embedding.type(x.dtype).expand(len(x), 1, -1), x], dim=1)
    x = x + visual.positional_embedding.type(x.dtype)
    layers = () if prompts is None else prompts.type(x.dtype).unbind()
    if layers:
        x = torch.cat([x, layers[0].expand(len(x), -1, -1)], dim=1)
    x = visual.ln_pre(x)
    for index, block in enumerate(visual.transformer.resblocks):
        if 0 < index < len(layers):
            prompt = layers[index].expand(len(x), -1, -1)
            x = torch.cat([x[:, : -prompt.shape[1]], prompt], dim=1)
        x, _ = run_block(block, x)
    return visual.ln_post(x[:, 0]) @ visual.proj
