"""The small world of the compatibility checks: random CLIPs of OpenAI's shape, and a data set."""

import json
import warnings
from pathlib import Path

import torch
from PIL import Image
from torch import nn

NAMES = ("accordion", "ant", "ceiling_fan", "crocodile_head")
VOCABULARY, CONTEXT = 49408, 77


def clip_state(
    text: int, vision: int, joint: int, layers: int, patch: int, side: int, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random weights under OpenAI's names, scaled so that features differ from class to class.

    Args:
        text, vision, joint: widths; those of the towers are multiples of 64.
        patch, side: of a patch and of the image, pixels.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * scale

    state = {
        "token_embedding.weight": noise(VOCABULARY, text, scale=0.02),
        "positional_embedding": noise(CONTEXT, text, scale=0.01),
        "text_projection": noise(text, joint, scale=text**-0.5),
        "logit_scale": torch.tensor(100.0).log(),
        "visual.class_embedding": noise(vision, scale=vision**-0.5),
        "visual.positional_embedding": noise((side // patch) ** 2 + 1, vision, scale=vision**-0.5),
        "visual.conv1.weight": noise(vision, 3, patch, patch, scale=patch**-1.0),
        "visual.proj": noise(vision, joint, scale=vision**-0.5),
    }
    norms = {"ln_final": text, "visual.ln_pre": vision, "visual.ln_post": vision}
    for tower, width in (("transformer", text), ("visual.transformer", vision)):
        for block in (f"{tower}.resblocks.{index}" for index in range(layers)):
            norms |= {f"{block}.ln_1": width, f"{block}.ln_2": width}
            for name, rows, columns in (
                ("attn.in_proj_", 3 * width, width),
                ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                state[f"{block}.{name}weight"] = noise(rows, columns, scale=columns**-0.5)
                state[f"{block}.{name}bias"] = noise(rows, scale=0.02)
    for name, width in norms.items():
        state[f"{name}.weight"] = 1 + noise(width, scale=0.05)
        state[f"{name}.bias"] = noise(width, scale=0.05)
    return state


class _Node(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save_archive(state: dict[str, torch.Tensor], side: int, path: Path) -> None:
    """A TorchScript archive in half precision whose state dict reads like OpenAI's."""
    root = _Node()
    for name, value in state.items():
        *parents, leaf = name.split(".")
        node = root
        for part in parents:
            if not hasattr(node, part):
                node.add_module(part, _Node())
            node = getattr(node, part)
        node.register_buffer(leaf, value.half())
    sizes = {"input_resolution": side, "context_length": CONTEXT, "vocab_size": VOCABULARY}
    for name, size in sizes.items():
        root.register_buffer(name, torch.tensor(size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(root).save(str(path))


def write_dataset(root: Path, images: int = 2) -> None:
    """A Caltech101 of four classes in CoOp's layout, `images` of each class in each split."""
    folder = root / "caltech-101" / "101_ObjectCategories"
    generator = torch.Generator().manual_seed(0)
    split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for part, entries in split.items():
            for index in range(images):
                path = f"{name}/{part}_{index}.png"
                pixels = torch.randint(256, (6, 6, 3), generator=generator, dtype=torch.uint8)
                image = Image.fromarray(pixels.numpy()).resize((48, 40))
                image.save(folder / path)
                entries.append([path, label, name])
    (root / "caltech-101" / "split_zhou_Caltech101.json").write_text(json.dumps(split))
