"""Pretrain the demo world's CLIP from scratch: `python scripts/pretrain_demo.py`.

A small CLIP of OpenAI's architecture, with its full depth (12 + 12 layers), is trained
contrastively on clean renderings and captions. This takes about 45 minutes on one CPU core and
writes prompting/demo_clip.safetensors; prompting/DEMO_CLIP.md explains the choices made here.
"""

import argparse
import math
import random
import sys
from pathlib import Path

import clip
import numpy as np
import torch
import torch.nn.functional as F
from clip.model import CLIP
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm, trange

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datasets import shapes  # noqa: E402
from prompting.templates import IMAGENET_TEMPLATES  # noqa: E402

CAPTION_TOKENS = 20  # no caption is longer; the remaining positions stay as initialised
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
STD = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)


def build(context_length: int = CAPTION_TOKENS) -> CLIP:
    return CLIP(
        embed_dim=64,
        image_resolution=shapes.SIZE,
        vision_layers=12,
        vision_width=128,
        vision_patch_size=16,
        context_length=context_length,
        vocab_size=49408,
        transformer_width=64,
        transformer_heads=1,
        transformer_layers=12,
    )


def draw_scene(rng: random.Random) -> shapes.Scene:
    colour, background = rng.sample(list(shapes.COLOURS), 2)
    shape, texture = rng.choice(list(shapes.SHAPES)), rng.choice(list(shapes.TEXTURES))
    return shapes.Scene(shape, colour, texture, background)


def caption(scene: shapes.Scene, rng: random.Random) -> str:
    """Describe the scene; one caption in four omits a word, one in four adds the background."""
    words = [scene.texture, scene.colour, scene.shape]
    if rng.random() < 0.25:
        del words[rng.randrange(2)]
    name = " ".join(words)
    if rng.random() < 0.25:
        name += f" on a {scene.background} background"
    template = "a photo of a {}." if rng.random() < 0.4 else rng.choice(IMAGENET_TEMPLATES)
    return template.format(name)


def draw_pool(size: int, seed: int) -> tuple[list[shapes.Scene], torch.Tensor]:
    """Draw scenes and their images, (size, 3, 64, 64) uint8."""
    rng = random.Random(seed)
    scenes = [draw_scene(rng) for _ in range(size)]
    images = np.empty((size, shapes.SIZE, shapes.SIZE, 3), dtype=np.uint8)
    for index in trange(size, desc="rendering", mininterval=10):
        generator = np.random.default_rng([seed, index])
        images[index] = shapes.render(scenes[index], shapes.CLEAN, generator)
    return scenes, torch.from_numpy(images).permute(0, 3, 1, 2)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200) -> float:
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def contrastive_loss(model: CLIP, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    # Short sequences: the fused CPU kernel's backward is slower than plain products.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image = model.encode_image(images)
        text = model.encode_text(tokens)
    image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
    logits = model.logit_scale.exp() * image @ text.T
    target = torch.arange(len(images))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def pretrain(pool: int, steps: int, batch: int, peak: float, seed: int) -> CLIP:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = build()
    scenes, images = draw_pool(pool, seed)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
    )
    progress = trange(steps, desc="training", mininterval=10)
    for step in progress:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        chosen = rng.sample(range(pool), batch)
        tokens = clip.tokenize([caption(scenes[i], rng) for i in chosen], CAPTION_TOKENS)
        loss = contrastive_loss(model, (images[chosen] / 255 - MEAN) / STD, tokens)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        if step % 50 == 0:
            scale = model.logit_scale.exp().item()
            tqdm.write(f"step {step} loss {loss.item():.3f} logit scale {scale:.1f}")
    return model


def export(model: CLIP, path: Path) -> None:
    """Export in half precision, with only those rows of the token embedding that captions use."""
    words = ["on a background", *shapes.SHAPES, *shapes.COLOURS, *shapes.TEXTURES]
    texts = [*words, *(template.format("") for template in IMAGENET_TEMPLATES)]
    rows = clip.tokenize(texts).unique()
    state = dict(model.state_dict())
    embedding = state.pop("token_embedding.weight")
    positions = build(context_length=77).positional_embedding.detach().clone()
    positions[:CAPTION_TOKENS] = state["positional_embedding"]
    state["positional_embedding"] = positions
    state["token_embedding.rows"] = embedding[rows]
    half = {name: value.half().contiguous() for name, value in state.items()}
    save_file({**half, "token_embedding.ids": rows.to(torch.int32)}, path)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    trained = pretrain(pool=60_000, steps=3500, batch=192, peak=1e-3, seed=0)
    export(trained, ROOT / "prompting" / "demo_clip.safetensors")
