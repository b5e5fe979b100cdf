"""Models of open_clip as backbones: "open_clip:ARCHITECTURE/TAG", or "open_clip:ARCHITECTURE/FILE".

The architecture is one of open_clip's (or added by `open_clip.add_model_config`); it says what a
file of weights cannot. The models stay open_clip's own, unmodified; `open_clip_towers.py` and
`timm_towers.py` drive them. open_clip is an extra: `pip install "mmlop[open_clip]"`.
"""

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clip
import torch
from torch import Tensor, nn

from prompting.architecture import HEAD_WIDTHS, Architecture
from prompting.errors import ArgumentError
from prompting.open_clip_towers import is_driven
from prompting.preprocess import ImageSettings
from prompting.tokenizer import OtherTokenizer, Tokenizer
from prompting.weights import VOCABULARY, check_numbers

PREFIX = "open_clip:"
# Pieces of a configuration that no tower here can drive, and what they are.
REFUSED = (
    ("multimodal_cfg", "is a CoCa, with a decoder"),
    ("hf_model_name", "has a text tower of Hugging Face's transformers"),
    ("embed_cls", "has a text tower with a class token of its own"),
)
SETTINGS = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class Source:
    """Which weights of which architecture.

    Attributes:
        name: as it was asked for.
        architecture: its name in open_clip.
        config: its configuration, with the activation that the weights were trained with.
        tag: of the pretrained weights; empty for a file.
        path: of the file.
        images: how the weights want images; None where that cannot be known.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    tag: str
    path: Path
    images: ImageSettings | None

    @property
    def label(self) -> str:
        """Return what tells these from the same weights in another architecture."""
        return json.dumps(self.config, sort_keys=True)


def check(name: str, dtype: torch.dtype, architecture: Architecture) -> None:
    """Refuse what models of open_clip do not take.

    Args:
        dtype: of the weights.
        architecture: what the caller says that a file cannot.

    Raises:
        ValueError: weights in half precision, head widths.
    """
    if dtype != torch.float32:
        raise ValueError(
            f'Backbone "{name}" is one of open_clip, whose weights stay in fp32: choose precision '
            "fp32, tf32 or amp."
        )
    if architecture.head_widths != HEAD_WIDTHS:
        raise ArgumentError(
            "head_widths", f'is {architecture.head_widths}: the architecture of "{name}" says them.'
        )


def find(name: str, activation: str = "") -> Source:
    """Find what a name means, without loading or downloading anything.

    Args:
        activation: "quick_gelu" or "gelu", where it is not that of the architecture.

    Raises:
        ValueError: open_clip is not installed, or it has no such architecture or weights, or the
            architecture cannot be driven.
    """
    open_clip = _package()
    architecture, _, rest = name.removeprefix(PREFIX).partition("/")
    known = open_clip.list_models()
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, n=3, cutoff=0.0)
        raise ValueError(
            f'Backbone "{name}": open_clip has no architecture "{architecture}"; the nearest are '
            f"{', '.join(near)}. Expected {PREFIX}ARCHITECTURE/TAG or {PREFIX}ARCHITECTURE/FILE."
        )
    config = open_clip.get_model_config(architecture)
    for piece, what in REFUSED:
        if piece in config or piece in config["text_cfg"]:
            raise ValueError(
                f'Backbone "{name}": {architecture} {what}, which takes no prompts here.'
            )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    path = Path(rest).expanduser()
    pretrained = open_clip.is_pretrained_cfg(architecture, rest)
    if not pretrained and not path.is_file():
        raise ValueError(
            f'Backbone "{name}": "{rest}" is neither a file nor weights of {architecture}: choose '
            f"{', '.join(tags) or 'a file'}."
        )
    published = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
    tag = rest if pretrained else ""
    own = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    quick = own.get("quick_gelu", config.get("quick_gelu", False))
    config["quick_gelu"] = activation == "quick_gelu" if activation else quick
    return Source(name, architecture, config, tag, path, _settings([own] if tag else published))


def _settings(known: list[Mapping[str, Any]]) -> ImageSettings | None:
    """Return how images are made ready, where all of an architecture's weights agree on it."""
    found = [tuple(cfg.get(key) for key in SETTINGS) for cfg in known]
    if not found or None in found[0] or any(one != found[0] for one in found):
        return None
    mean, std, interpolation, resize_mode = found[0]
    return ImageSettings(tuple(mean), tuple(std), interpolation, resize_mode)


def load(source: Source, read: Callable[[Path], dict[str, Tensor]]) -> tuple[nn.Module, Tokenizer]:
    """Build the model in fp32, load its weights, find its tokenizer.

    Args:
        read: returns the state dict in a file, safely.

    Raises:
        ValueError: weights that cannot be had, or do not fit.
    """
    path = _download(source) if source.tag else source.path
    state = read(path)
    model = _build(source)
    state = _fitted(model, state)
    check_numbers(state, str(path))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} does not hold the weights of open_clip's {source.architecture}: they do not "
            f"fit ({reason})."
        ) from error
    return model, _tokenizer(source)


def _package() -> Any:
    # An extra, and five seconds to import: only where it is asked for.
    try:
        import open_clip
    except ImportError as error:
        raise ValueError(
            f"Backbones of open_clip need its package ({error}): pip install "
            '"open_clip_torch>=3.3".'
        ) from error
    return open_clip


def _download(source: Source) -> Path:
    open_clip = _package()
    cfg = open_clip.get_pretrained_cfg(source.architecture, source.tag)
    try:
        return Path(open_clip.download_pretrained(cfg))
    except Exception as error:  # whatever urllib, huggingface_hub and open_clip raise
        raise ValueError(
            f'Backbone "{source.name}" could not be downloaded ({" ".join(str(error).split())}): '
            "without a network, fetch it on another machine and pass the file's path, "
            f'"{PREFIX}{source.architecture}/FILE".'
        ) from None  # the network's own traceback is long, and says no more


def _build(source: Source) -> nn.Module:
    """Return the architecture as `open_clip.create_model` has it, with random weights."""
    open_clip = _package()
    config = json.loads(json.dumps(source.config))
    config["vision_cfg"]["timm_model_pretrained"] = False
    config["nonscalar_logit_scale"] = False
    custom = config.pop("custom_text", False)
    model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
    text = getattr(model, "text", model)
    if not is_driven(text.transformer):
        raise ValueError(
            f'Backbone "{source.name}": {source.architecture} has blocks in its text tower that '
            "take no prompts here."
        )
    return model


def _fitted(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict under the names of a model, as `open_clip.load_checkpoint` does."""
    # Extras, see `_package`.
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(model, dict(state))
    if "positional_embedding" in state and hasattr(model, "text"):
        state = convert_to_custom_text_state_dict(state)
    for key in ("attn_mask", "text.attn_mask", "input_resolution", "context_length", "vocab_size"):
        state.pop(key, None)  # of older versions, and of OpenAI's archives
    for key in ("logit_scale", "logit_bias"):  # numbers, with or without a dimension
        if key in state and state[key].numel() == 1:
            state[key] = state[key].reshape(())
    if model.logit_bias is None:
        state.pop("logit_bias", None)  # the same for all classes: it changes no probability
    elif "logit_scale" in state:
        state.setdefault("logit_bias", torch.zeros(()))
    return state


def _tokenizer(source: Source) -> Tokenizer:
    text = source.config["text_cfg"]
    length, causal = text.get("context_length", 77), not text.get("no_causal_mask", False)
    pool, other = text.get("pool_type", "argmax"), text.get("hf_tokenizer_name")
    vocabulary = text.get("vocab_size", VOCABULARY)
    if not other and vocabulary != VOCABULARY:
        raise ArgumentError(
            "name",
            f'is "{source.name}", which has {vocabulary} tokens and names no tokenizer; CLIP\'s '
            f"has {VOCABULARY}.",
        )
    if not other and pool == "argmax":
        return Tokenizer(length, causal)
    call = _hugging_face(source) if other else _clip_tokens
    return OtherTokenizer.measured(call, length, causal, pool, text.get("eos_id", 2))


def _clip_tokens(texts: list[str], length: int) -> Tensor:
    return clip.tokenize(texts, context_length=length, truncate=True)


def _hugging_face(source: Source) -> Callable[[list[str], int], Tensor]:
    try:
        return _package().get_tokenizer(source.architecture)
    except Exception as error:  # whatever transformers and huggingface_hub raise
        wanted = source.config["text_cfg"]["hf_tokenizer_name"]
        raise ValueError(
            f'Backbone "{source.name}" needs the tokenizer "{wanted}", which could not be loaded '
            f"({' '.join(str(error).split())[:200]}): pip install transformers sentencepiece, and "
            "fetch it once with a network."
        ) from error
