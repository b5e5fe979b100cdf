"""Tiny models of open_clip with random weights, one of each kind that its architectures have.

Their texts are tokenised by CLIP's tokenizer: those of SigLIP and CLIPA would be downloads.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch

from prompting import open_clip_models

TEXT = {"context_length": 20, "vocab_size": 49408, "width": 48, "heads": 3, "layers": 4}
IMAGE = {"image_size": 32, "patch_size": 8, "width": 60, "head_width": 20, "layers": 4}
SEES_PADS = {"no_causal_mask": True, "pool_type": "last"}


def timm_tower(name: str, pool: str, projection: str | None) -> dict:
    return {
        "image_size": 32, "timm_model_name": name, "timm_pool": pool, "timm_proj": projection,
    }  # fmt: skip


CONFIGS = {
    "gelu": {"vision_cfg": IMAGE, "text_cfg": TEXT},
    "quickgelu": {"vision_cfg": IMAGE, "text_cfg": TEXT, "quick_gelu": True},
    # LAION's longer training: patch dropout; ViT-M-16-alt: layer scale; MLPs of another ratio.
    "alt": {
        "vision_cfg": {**IMAGE, "patch_dropout": 0.5, "ls_init_value": 0.3, "mlp_ratio": 3.0},
        "text_cfg": {**TEXT, "mlp_ratio": 2.5},
    },
    "clipa": {
        "vision_cfg": {**IMAGE, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": {**TEXT, **SEES_PADS},
    },
    "siglip": {
        "vision_cfg": timm_tower("tiny_siglip", "map", "none"),
        "text_cfg": {**TEXT, **SEES_PADS, "proj_bias": True, "norm_kwargs": {"eps": 1e-6}},
        "custom_text": True, "init_logit_bias": -10,
    },
    "siglip2": {
        "vision_cfg": timm_tower("tiny_siglip", "map", "none"),
        "text_cfg": {**TEXT, **SEES_PADS, "act_kwargs": {"approximate": "tanh"},
                     "proj_type": "none", "width": 60},
        "custom_text": True, "init_logit_bias": -10,
    },
    "eva02": {
        "vision_cfg": timm_tower("tiny_eva02", "token", None),
        "text_cfg": TEXT, "custom_text": True,
    },
    "pe": {
        "vision_cfg": timm_tower("tiny_pe", "map", None),
        "text_cfg": TEXT, "custom_text": True,
    },
    "resnet": {
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16}, "text_cfg": TEXT,
    },
    "mobileclip": {
        "vision_cfg": timm_tower("test_convnext", "avg", None),
        "text_cfg": {**TEXT, "no_causal_mask": True}, "custom_text": True,
    },
}  # fmt: skip
KINDS = [kind for kind in CONFIGS if kind not in ("resnet", "mobileclip")]


@cache
def add_architectures(folder: Path) -> None:
    """Make "tiny-KIND" an architecture of open_clip for each kind."""
    import open_clip

    _register_timm_towers()
    for kind, config in CONFIGS.items():
        embed_dim = 60 if kind.startswith("siglip") else 32
        text = json.dumps({"embed_dim": embed_dim, **config})
        (folder / f"tiny-{kind}.json").write_text(text)
    open_clip.add_model_config(folder)


def _register_timm_towers() -> None:
    from timm.models import Eva, VisionTransformer, register_model

    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 60, "depth": 4, "num_heads": 3}

    def asked(kwargs):
        return {key: kwargs[key] for key in ("num_classes", "global_pool")}

    rotary = {"use_rot_pos_emb": True, "ref_feat_shape": (4, 4)}

    def tiny_siglip(**kwargs):
        return VisionTransformer(**sizes, class_token=False, **asked(kwargs))

    def tiny_eva02(**kwargs):
        swiglu = {"qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True}
        return Eva(**sizes, **rotary, **swiglu, **asked(kwargs))

    def tiny_pe(**kwargs):
        normed = {"use_pre_transformer_norm": True, "init_values": 0.3}
        return Eva(**sizes, **rotary, **normed, **asked(kwargs))

    for tower in (tiny_siglip, tiny_eva02, tiny_pe):
        register_model(tower)


@cache
def write_weights(folder: Path, kind: str) -> str:
    """Write random weights of a kind, biases and norms too; returns the backbone's name."""
    pytest.importorskip("open_clip", reason="needs the extra open_clip")
    add_architectures(folder)
    path = folder / f"{kind}.pth"
    path.touch()
    torch.manual_seed(0)
    backbone = f"open_clip:tiny-{kind}/{path}"
    model = open_clip_models._build(open_clip_models.find(backbone))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and not name.startswith("logit"):
                parameter.add_(torch.randn_like(parameter) * 0.05)
            elif "trunk" in name:  # timm's are so small that nothing in front of them would count
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    torch.save(model.state_dict(), path)
    return backbone
