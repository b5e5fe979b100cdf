"""Prompt learning on CLIP in plain PyTorch: prompts, prompted encoders, regularisers.

Nothing here knows of Dassl; the trainers in `trainers/` put it into Dassl's loop.
"""

from prompting.backbone import Backbone, load_backbone, require_transformer
from prompting.image import encode_image
from prompting.model import PromptedCLIP, frozen_text_features
from prompting.prompts import (
    Context,
    FullRankPrompts,
    LowRankPrompts,
    NoPrompts,
    PromptStart,
    context_text,
    initial_prompts,
    start_context,
    word_vectors,
)
from prompting.regularizers import Consistency, consistency, correct_drift, knowledge_guidance
from prompting.templates import class_prompts
from prompting.text import Sentences, encode_text, encode_texts, tokenize

__all__ = [
    "Backbone",
    "Consistency",
    "Context",
    "FullRankPrompts",
    "LowRankPrompts",
    "NoPrompts",
    "PromptStart",
    "PromptedCLIP",
    "Sentences",
    "class_prompts",
    "consistency",
    "context_text",
    "correct_drift",
    "encode_image",
    "encode_text",
    "encode_texts",
    "frozen_text_features",
    "initial_prompts",
    "knowledge_guidance",
    "load_backbone",
    "require_transformer",
    "start_context",
    "tokenize",
    "word_vectors",
]
