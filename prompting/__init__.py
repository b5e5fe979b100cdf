"""Prompt learning on CLIP in plain PyTorch: prompts, prompted encoders, losses.

A separate library, which imports torch, clip, PIL, safetensors and filelock; the trainers in
`trainers/` put it into Dassl's loop.
"""

from prompting.backbone import Backbone, load_backbone, require_transformer, share_backbones
from prompting.errors import ArgumentError
from prompting.hub import load_prompts, push_to_hub, save_prompts
from prompting.image_encoder import encode_image
from prompting.losses import (
    SCLTerms,
    SCLWeights,
    knowledge_guidance,
    self_regulating_consistency,
    uniform_drift_correction,
)
from prompting.low_rank import LowRankPrompts
from prompting.metrics import evaluation_metrics
from prompting.model import PromptedCLIP, frozen_text_features
from prompting.prediction import Prediction, image_files, predict, zero_shot
from prompting.prompts import (
    Context,
    FullRankPrompts,
    NoPrompts,
    check_prompt_sizes,
    context_words,
    initial_context,
    initial_prompts,
    placeholders,
    tower_widths,
    word_embeddings,
)
from prompting.templates import class_prompts
from prompting.text_encoder import TokenizedPrompts, encode_text, encode_texts, tokenize

__all__ = [
    "ArgumentError",
    "Backbone",
    "Context",
    "FullRankPrompts",
    "LowRankPrompts",
    "NoPrompts",
    "Prediction",
    "PromptedCLIP",
    "SCLTerms",
    "SCLWeights",
    "TokenizedPrompts",
    "check_prompt_sizes",
    "class_prompts",
    "context_words",
    "encode_image",
    "encode_text",
    "encode_texts",
    "evaluation_metrics",
    "frozen_text_features",
    "image_files",
    "initial_context",
    "initial_prompts",
    "knowledge_guidance",
    "load_backbone",
    "load_prompts",
    "placeholders",
    "predict",
    "push_to_hub",
    "require_transformer",
    "save_prompts",
    "self_regulating_consistency",
    "share_backbones",
    "tokenize",
    "tower_widths",
    "uniform_drift_correction",
    "word_embeddings",
    "zero_shot",
]
