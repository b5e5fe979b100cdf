"""What both sides of a speed comparison are given: weights, class names, a data set, images."""

import json
from pathlib import Path

import torch
from clip.model import CLIP
from PIL import Image

from prompting import load_backbone
from prompting.precision import cast_matrices

RANDOM = "random"
# The widths, layers and picture size of OpenAI's ViT-B/16.
VIT_B16 = dict(
    embed_dim=512, image_resolution=224, vision_layers=12, vision_width=768, vision_patch_size=16,
    context_length=77, vocab_size=49408, transformer_width=512, transformer_heads=8,
    transformer_layers=12,
)  # fmt: skip
SEED = 0

# Names of two or three tokens, as most class names have; the first words differ most.
FIRST = (
    "amber", "arctic", "bamboo", "basket", "black", "blue", "brick", "bronze", "canvas", "cedar",
    "cherry", "coastal", "copper", "crystal", "desert", "double", "eastern", "electric", "emerald",
    "forest", "garden", "giant", "golden", "granite", "grey", "harvest", "horned", "iron", "ivory",
    "jungle", "leather", "little", "maple", "marble", "mountain", "northern", "ocean", "olive",
    "orange", "paper", "pearl", "prairie", "river", "rocky", "scarlet", "silver", "spotted",
    "striped", "velvet", "wooden",
)  # fmt: skip
SECOND = (
    "barrel", "bear", "boat", "bridge", "chair", "clock", "drum", "falcon", "fox", "guitar",
    "kettle", "lamp", "lizard", "orchid", "piano", "rabbit", "rose", "spider", "tower", "wagon",
)  # fmt: skip
MOST = len(FIRST) * len(SECOND)


def class_names(count: int) -> list[str]:
    """Different names, always the same.

    Raises:
        ValueError: more than there are.
    """
    if not 1 <= count <= MOST:
        raise ValueError(f"--classes takes 1 to {MOST}, got {count}.")
    return [
        f"{FIRST[i % len(FIRST)]} {SECOND[(i + i // len(FIRST)) % len(SECOND)]}"
        for i in range(count)
    ]


def load_model(backbone: str) -> CLIP:
    """A CLIP by its name or file; "random" is one of ViT-B/16's shape, always the same."""
    if backbone != RANDOM:
        return load_backbone(backbone).model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return CLIP(**VIT_B16).eval().requires_grad_(False)


def write_weights(model: CLIP, path: Path) -> None:
    """A state dict in half precision, as OpenAI has it: both sides read it."""
    cast_matrices(model, torch.float16)
    torch.save(model.state_dict(), path)


def write_dataset(root: Path, names: list[str]) -> None:
    """A Caltech101 of these classes in CoOp's layout, with a picture a class in each split."""
    folder = root / "caltech-101" / "101_ObjectCategories"
    split: dict[str, list] = {"train": [], "val": [], "test": []}
    picture = Image.new("RGB", (8, 8), (90, 120, 150))
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for part, entries in split.items():
            path = f"{name}/{part}.png"
            picture.save(folder / path)
            entries.append([path, label, name])
    (root / "caltech-101" / "split_zhou_Caltech101.json").write_text(json.dumps(split))
