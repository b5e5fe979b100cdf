"""Find, recognise and check the weights in a file before a CLIP is built of them.

A file of weights says neither its activation nor the width of its heads, and tools wrap it in their
own ways. Wrappers are taken off; a layout that is not OpenAI's is named, not guessed at.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from prompting.architecture import HEAD_WIDTHS

VOCABULARY = 49408  # of CLIP's tokenizer
LARGEST_LOGIT_SCALE = 10.0  # CLIP's is at most ln 100 = 4.6; 100 is its exponential
# Sizes that OpenAI's archives hold, open_clip's old mask, and a bias that no class gains by.
SKIPPED = ("input_resolution", "context_length", "vocab_size", "attn_mask", "logit_bias")
PARTS = ("visual", "transformer", "text", "trunk", "vision_model", "text_model", "prompt_learner")
OPEN_CLIP = 'name its architecture, "open_clip:ARCHITECTURE/FILE" (docs/backbones.md)'
CLIP_FILE = "pass the same weights in the layout of OpenAI or open_clip"
# A piece of a key, whose file it is, and what to do; the first that is found counts.
LAYOUTS = (
    ("lora_", "holds LoRA adapters next to the weights", "merge them into the weights first"),
    (".base_layer.", "holds peft's wrapped layers", "merge the adapters into the weights first"),
    ("prompt_learner.", "holds prompts", "pass the folder of their run as --model-dir"),
    ("text_encoder.", "has the layout of CoOp's CustomCLIP", "pass the CLIP that it was made of"),
    ("visual.trunk.", "has open_clip's layout, with an image tower of timm", OPEN_CLIP),
    ("text.token_embedding.", "has open_clip's layout, with a text tower of its own", OPEN_CLIP),
    ("text.transformer.", "has open_clip's layout, with a text tower of its own", OPEN_CLIP),
    (".ls_1.gamma", "has open_clip's layer scale", OPEN_CLIP),
    ("vision_model.head.", "has Hugging Face's layout of SigLIP", CLIP_FILE),
    ("vision_model.", "has the layout of Hugging Face's transformers", CLIP_FILE),
    ("text_model.", "has the layout of Hugging Face's transformers", CLIP_FILE),
    ("visual.blocks.", "has the layout of EVA-CLIP", CLIP_FILE),
    ("patch_embed.proj.", "is an image model of timm, without a text tower", "pass a CLIP"),
    (
        "positional_embedding_res",
        "is a Long-CLIP, which has two tables of positions",
        "pass a CLIP",
    ),
)


def find_state(content: Any, source: str) -> dict[str, Tensor]:
    """Return the state dict in what a file holds, without the prefixes that wrappers put there.

    It may lie deeper ("state_dict", "model", ...) and its keys may all begin with the same words
    ("module.", "model.", "clip.", torch.compile's "_orig_mod.").

    Raises:
        ValueError: there are several.
    """
    while isinstance(content, Mapping) and not _is_state(content):
        inner = {name: part for name, part in content.items() if _holds_state(part)}
        if len(inner) > 1:
            raise ValueError(
                f"{source} holds several sets of weights ({', '.join(map(str, inner))}): save the "
                "one you mean to a file of its own."
            )
        content = next(iter(inner.values()), None)
    content = content if isinstance(content, Mapping) else {}  # a tensor, a list
    state = {str(key).replace("_orig_mod.", ""): v for key, v in content.items()}
    while len(first := {key.partition(".")[0] for key in state}) == 1 and not first & set(PARTS):
        if any("." not in key for key in state):
            break
        state = {key.partition(".")[2]: value for key, value in state.items()}
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _is_state(content: Mapping) -> bool:
    """Return whether these are weights by name; an optimiser's are "step", "exp_avg", ..."""
    return any("." in str(key) and isinstance(value, Tensor) for key, value in content.items())


def _holds_state(content: Any) -> bool:
    if not isinstance(content, Mapping):
        return False
    return _is_state(content) or any(_holds_state(part) for part in content.values())


def clip_weights(
    state: Mapping[str, Tensor], source: str, head_widths: tuple[int, int]
) -> dict[str, Tensor]:
    """Return the weights of a CLIP of OpenAI's architecture, in fp32.

    Args:
        head_widths: of the text and of the image tower's attention heads.

    Raises:
        ValueError: another layout, by its name; what is not a CLIP's; widths that do not fit.
    """
    _check_layout(state, source)
    weights = {key: value for key, value in state.items() if key not in SKIPPED}
    check_numbers(weights, source)
    scale = weights["logit_scale"].reshape(()).float()
    if scale > LARGEST_LOGIT_SCALE:
        raise ValueError(
            f"{source} has a logit_scale of {float(scale):g}: expected its logarithm, at most "
            "4.6 in OpenAI's models."
        )
    _check_shapes(weights, source, head_widths)
    return {**{key: value.float() for key, value in weights.items()}, "logit_scale": scale}


def check_numbers(weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are whole numbers (quantised) or not finite, by a ValueError."""
    for key, value in weights.items():
        if value.dtype == torch.int64:  # counts and indices
            continue
        if not value.is_floating_point() or value.element_size() == 1:
            raise ValueError(
                f"{source} holds {key} in {value.dtype}: quantised weights are not read, pass "
                "those in fp32, fp16 or bf16."
            )
        if not value.float().sum().isfinite():
            raise ValueError(f"{source} holds infinite values or NaN in {key}: it is damaged.")


def _check_layout(state: Mapping[str, Tensor], source: str) -> None:
    for piece, what, remedy in LAYOUTS:
        if any(piece in key for key in state):
            raise ValueError(f"{source} {what} (keys with {piece}): {remedy}.")
    text = "token_embedding.weight" in state
    image = "visual.conv1.weight" in state
    if text and image:
        if "logit_scale" not in state:
            raise ValueError(f"{source} holds both towers of a CLIP and no logit_scale.")
        return
    if text or image:
        found, missing = ("text", "image") if text else ("image", "text")
        raise ValueError(
            f"{source} holds the {found} tower of a CLIP alone, and no {missing} tower: pass a "
            "file with both."
        )
    wrapped = next((key for key in state if key.endswith("token_embedding.weight")), None)
    if wrapped is not None:
        prefix = wrapped.removesuffix("token_embedding.weight")
        others = [key for key in state if not key.startswith(prefix)]
        rest = f"other weights next to it, such as {others[0]}" if others else "nothing else"
        raise ValueError(
            f'{source} holds a CLIP under "{prefix}" and {rest}: save the CLIP\'s state dict alone.'
        )
    shown = ", ".join(list(state)[:3]) or "no weights"
    raise ValueError(
        f"{source} holds no CLIP of OpenAI's architecture: expected token_embedding.weight, "
        f"visual.conv1.weight, logit_scale and so on, found {shown}."
    )


def _check_shapes(weights: Mapping[str, Tensor], source: str, head_widths: tuple[int, int]) -> None:
    rows = len(weights["token_embedding.weight"])
    if rows != VOCABULARY:
        raise ValueError(
            f"{source} has {rows} tokens, and CLIP's tokenizer {VOCABULARY}: its texts need "
            f"another tokenizer; for a model of open_clip {OPEN_CLIP}."
        )
    widths = {"text": weights["token_embedding.weight"].shape[1]}
    if "visual.class_embedding" in weights:
        widths["image"] = len(weights["visual.class_embedding"])
        patches = len(weights.get("visual.positional_embedding", torch.empty(2))) - 1
        if round(patches**0.5) ** 2 != patches:
            raise ValueError(
                f"{source} has positions for {patches} patches, which are no square: CLIP takes "
                "square images."
            )
    elif head_widths[1] != HEAD_WIDTHS[1]:
        raise ValueError(f"{source} has a ResNet image tower: its heads are {HEAD_WIDTHS[1]} wide.")
    for (tower, width), head in zip(widths.items(), head_widths, strict=False):
        if width % head:
            raise ValueError(
                f"{source} has a {tower} tower of width {width}, which heads of {head} do not "
                "divide: give head_widths, of the text and the image tower, in a run "
                f"MODEL.BACKBONE.HEAD_WIDTHS; for a model of open_clip {OPEN_CLIP}."
            )
