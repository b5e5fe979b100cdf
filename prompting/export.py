"""Export a classifier as ONNX: `python -m prompting.export PROMPTS FOLDER`.

The file holds the prompted image tower and one matrix for all the text,

    logits = f W^T,    W = s g      (B, C) = (B, D) (D, C)

with f the normalised image features, g the text features that classify (drift-corrected where that
is on) and s the logit scale. Class names and preprocessing are in the file's metadata.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from prompting.adapter_config import describe_backbone
from prompting.files import check_folder
from prompting.hub import load_prompts
from prompting.model import PromptedCLIP
from prompting.prediction import read_classes
from prompting.preprocess import describe_preprocessing

FILE = "model.onnx"
LARGEST = 1 << 30  # bytes of weights in one file, half of what ONNX's own format can hold
EXAMPLE = 2  # images of the example; torch.export takes a batch of one for a fixed size
CHECKED = (1, 5)  # batch sizes of the check, other than the example's
TOLERANCE = 1e-4  # of a logit


class MergedClassifier(nn.Module):
    """The image tower with its prompts, and the text as one matrix: images to logits (B, C).

    Args:
        model: whose text is the same for all images.

    Raises:
        ValueError: a model whose text differs from image to image (CoCoOp).
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
        folder: a new one.

    Raises:
        FileExistsError: the folder is there already.
        ValueError: a model of CoCoOp, in another precision, or packages that are not installed.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: name another folder.")
    check_folder(folder)
    if (model.precision, model.device.type) != ("fp32", "cpu"):
        raise ValueError(
            f"Export takes a model in fp32 on the CPU, this one is in {model.precision} on "
            f"{model.device}: load the prompts with precision fp32 and device cpu."
        )
    about = metadata(model)
    program = _trace(MergedClassifier(model).eval(), model.backbone.resolution)
    for node in program.model.graph:
        node.metadata_props.clear()  # from which line of which file on this machine it comes
    program.model.metadata_props.update(about)
    weights = sum(p.numel() * p.element_size() for p in model.clip.visual.parameters())
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        program.save(aside / FILE, external_data=weights > LARGEST)
        aside.chmod(0o755)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder / FILE


def _trace(merged: MergedClassifier, side: int) -> "torch.onnx.ONNXProgram":
    try:
        import onnxscript  # noqa: F401  # an extra, which torch.onnx asks for
    except ImportError as error:
        raise ValueError(
            "The export takes packages that are not installed: pip install onnx onnxscript."
        ) from error
    with torch.no_grad():
        return torch.onnx.export(
            merged,
            (torch.zeros(EXAMPLE, 3, side, side),),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )


def metadata(model: PromptedCLIP) -> dict[str, str]:
    """Return what a program needs next to the graph, as JSON texts: labels and preprocessing.

    Raises:
        ValueError: the backbone's preprocessing is not one that the words can say.
    """
    images = model.backbone.images
    if images and images.resize_mode != "shortest":
        raise ValueError(
            f'The preprocessing of backbone "{model.backbone.name}" is not CLIP\'s: the file could '
            "not tell a program how to prepare its images."
        )
    found = {
        "labels": list(model.classnames),
        "preprocessing": describe_preprocessing(model.backbone.resolution, images),
        "backbone": describe_backbone(model.backbone),
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in found.items()}


def difference(model: PromptedCLIP, path: Path) -> float:
    """Return the largest difference between the file's logits and the model's, on random images.

    Raises:
        ValueError: `onnxruntime` is not installed.
    """
    try:
        import onnxruntime  # an extra
    except ImportError as error:
        raise ValueError(f"{path} is written, but not checked: pip install onnxruntime.") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    generator, side = torch.Generator().manual_seed(0), model.backbone.resolution
    largest = 0.0
    for count in CHECKED:
        images = torch.randn(count, 3, side, side, generator=generator)
        (found,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            largest = max(largest, (torch.from_numpy(found) - model(images)).abs().max().item())
    return largest


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m prompting.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompts", help="folder of prompts, or its name on the Hub")
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("--classes", type=Path, help="file with a class name per line")
    parser.add_argument("--backbone", help="default: the prompts' own")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Export, check and say what came of it; return the exit status."""
    args = parse_args(argv)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # of each fold that it leaves out
    try:
        names = read_classes(args.classes) if args.classes else None
        model, _ = load_prompts(args.prompts, names, args.backbone, precision="fp32")
        path = export(model, args.folder)
        found = difference(model, path)
        if not found <= TOLERANCE:
            raise ValueError(
                f"{path} gives other logits than the model, by {found:.1e}, and {TOLERANCE:.0e} "
                "is the limit: do not use it."
            )
    except (OSError, ValueError) as error:
        print(f"prompting.export: {error}", file=sys.stderr)
        return 2
    print(f"{path}: logits as the model's to {found:.1e}, with batches of {CHECKED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
