"""Find the towers of a model: OpenAI's, open_clip's, or none that takes prompts."""

from clip.model import VisionTransformer
from torch import nn

from prompting import open_clip_towers, timm_towers
from prompting.open_clip_towers import OpenCLIPImage, OpenCLIPText
from prompting.openai_towers import ImageTower, TextTower
from prompting.timm_towers import TimmImage


def text_tower(model: nn.Module) -> TextTower:
    """Return a model's text tower."""
    if not _is_open_clip(model):
        return TextTower(model)
    return OpenCLIPText(getattr(model, "text", model))


def image_tower(model: nn.Module) -> ImageTower | None:
    """Return a model's image tower, None for one that takes no prompts: convolutions, ..."""
    visual = model.visual
    if isinstance(visual, VisionTransformer):
        return ImageTower(visual, model.dtype)
    if hasattr(visual, "trunk"):
        return TimmImage(visual) if timm_towers.is_driven(visual.trunk) else None
    if _is_open_clip(model) and hasattr(visual, "transformer"):
        driven = open_clip_towers.is_driven(visual.transformer)
        return OpenCLIPImage(visual) if driven else None
    return None


def resolution(model: nn.Module) -> int:
    """Return the side of the square image that a model takes, in pixels."""
    size = getattr(model.visual, "input_resolution", None) or model.visual.image_size
    return size if isinstance(size, int) else size[0]


def _is_open_clip(model: nn.Module) -> bool:
    return type(model).__module__.startswith("open_clip.")
