"""Export a classifier as ONNX: `python -m prompting.export PROMPTS FOLDER`.

The file holds the prompted image tower and one matrix for all the text,

    logits = f W^T,    W = s g      (B, C) = (B, D) (D, C)

with f the normalised image features, g the text features that classify (drift-corrected where that
is on) and s the logit scale. Class names and preprocessing are in the file's metadata.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from prompting.backbone import Backbone
from prompting.hub import load_prompts
from prompting.model import PromptedCLIP

FILE = "model.onnx"
LARGEST = 1 << 30  # bytes of weights in one file, half of what ONNX's own format can hold
EXAMPLE = 2  # images of the example; torch.export takes a batch of one for a fixed size
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class MergedClassifier(nn.Module):
    """The image tower with its prompts, and the text as one matrix: images to logits (B, C).

    Args:
        model: whose text is the same for all images.

    Raises:
        ValueError: a model that makes text of its own for each image (CoCoOp).
    """

    def __init__(self, model: PromptedCLIP) -> None:
        super().__init__()
        text = model.text_classifier()
        if text is None:
            raise ValueError(
                "These prompts differ from image to image (CoCoOp): there is no text to merge "
                "into the file. Export prompts of another method."
            )
        self.model = model
        self.register_buffer("weight", model.logit_scale * text)

    def forward(self, images: Tensor) -> Tensor:
        _, vision_prompts = self.model.prompt_learner()
        return self.model.image_features(images, vision_prompts) @ self.weight.T


def export(model: PromptedCLIP, folder: Path | str) -> Path:
    """Write FOLDER/model.onnx, and return its path.

    It takes images (B, 3, H, W) of any B. Weights beyond 1 GiB lie in a second file next to it.

    Args:
        model: on the CPU, in fp32.

    Raises:
        FileExistsError: the folder holds such a file.
        ValueError: a model of CoCoOp, in another precision, or packages that are not installed.
    """
    path = Path(folder) / FILE
    if path.exists():
        raise FileExistsError(f"{path} is there already: name another folder.")
    if (model.precision, model.device.type) != ("fp32", "cpu"):
        raise ValueError(
            f"Export takes a model in fp32 on the CPU, this one is in {model.precision} on "
            f"{model.device}: load the prompts with precision fp32 and device cpu."
        )
    try:
        import onnxscript  # noqa: F401  # an extra: only who exports has it
    except ImportError as error:
        raise ValueError(
            "The export takes packages that are not installed: pip install onnx onnxscript."
        ) from error
    merged = MergedClassifier(model).eval()
    side = model.backbone.resolution
    example = torch.zeros(EXAMPLE, 3, side, side)
    with torch.no_grad():
        program = torch.onnx.export(
            merged,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    program.model.metadata_props.update(metadata(model))
    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(p.numel() * p.element_size() for p in merged.model.clip.visual.parameters())
    program.save(path, external_data=size > LARGEST)
    return path


def metadata(model: PromptedCLIP) -> dict[str, str]:
    """Return what a program needs beside the graph, as JSON texts: labels and preprocessing."""
    return {
        "labels": json.dumps(model.classnames, ensure_ascii=False),
        "preprocessing": json.dumps(preprocessing(model.backbone)),
        "backbone": json.dumps({"name": model.backbone.name, "sha256": model.backbone.sha256}),
    }
