"""The plain towers: CLIP's own blocks, 77 tokens per text, one step after the other."""

import copy

import clip
import torch
from clip.model import CLIP
from torch import Tensor


def text_tower(model: CLIP, texts, deep=None, adapters=None) -> Tensor:
    """Encode texts whose tokens after [SOS] are replaced by deep[layer] (C, T, d): (C, D)."""
    tokens = clip.tokenize(texts)
    x = model.token_embedding(tokens)
    deep = deep or {}
    if 0 in deep:
        x = torch.cat([x[:, :1], deep[0], x[:, 1 + deep[0].shape[1] :]], dim=1)
    x = (x + model.positional_embedding).permute(1, 0, 2)
    for layer, block in enumerate(model.transformer.resblocks):
        if layer > 0 and layer in deep:
            prompt = deep[layer].permute(1, 0, 2)
            x = torch.cat([x[:1], prompt, x[1 + len(prompt) :]])
        extra = adapters[layer](block.ln_1(x)) if adapters and layer in adapters else 0
        x = block(x) + extra
    x = model.ln_final(x.permute(1, 0, 2))
    return x[range(len(texts)), tokens.argmax(dim=1)] @ model.text_projection


def image_tower(model: CLIP, images, prompts=(), adapters=None) -> Tensor:
    """Encode images with prompts[layer] (T, d) behind their patches: (B, D)."""
    visual = model.visual
    x = visual.conv1(images).flatten(2).permute(0, 2, 1)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
    x = x + visual.positional_embedding
    if len(prompts):
        x = torch.cat([x, prompts[0].expand(len(x), -1, -1)], dim=1)
    x = visual.ln_pre(x).permute(1, 0, 2)
    for layer, block in enumerate(visual.transformer.resblocks):
        if 0 < layer < len(prompts):
            prompt = prompts[layer][:, None].expand(-1, len(images), -1)
            x = torch.cat([x[: -len(prompt)], prompt])
        extra = adapters[layer](block.ln_1(x)) if adapters and layer in adapters else 0
        x = block(x) + extra
    return visual.ln_post(x[0]) @ visual.proj


def in_double(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy in double precision, whose own rounding is out of the comparison."""
    module = copy.deepcopy(module).double()
    for part in module.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.__class__ = torch.nn.LayerNorm  # CLIP's rounds to single precision
    return module


def unit(x: Tensor) -> Tensor:
    """Normalise the last dimension."""
    return x / x.norm(dim=-1, keepdim=True)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -log p(label)."""
    return -logits.log_softmax(dim=1)[range(len(labels)), labels].mean()


def ensemble(model: CLIP, names, templates) -> Tensor:
    """Return normalised means (C, D) of the templates' features, which are not normalised."""
    means = []
    for name in names:
        tokens = clip.tokenize([template.replace("{}", name) for template in templates])
        means.append(model.encode_text(tokens).mean(dim=0))
    return unit(torch.stack(means))
