"""CoPrompt: MaPLe's prompts and two adapters, held to the frozen CLIP (arXiv 2306.01195)."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import read_json
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import PromptedCLIP, knowledge_guidance
from prompting.coupled import CoupledPrompts
from prompting.feature_cache import cached
from prompting.layers import ResidualAdapter
from prompting.precision import autocast
from prompting.templates import IMAGENET_TEMPLATES, class_prompts
from prompting.text_encoder import encode_texts
from trainers.maple import MaPLe


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.CoPrompt, with the keys and defaults of its code base."""
    node = cfg.TRAINER.CoPrompt = CfgNode()
    node.N_CTX = 2  # prompt tokens of each tower
    node.CTX_INIT = "a photo of a"  # words before the class name; those beyond N_CTX stay frozen
    node.PROMPT_DEPTH = 9  # prompted layers of each tower
    node.W = 8.0  # weight of both distances to the frozen CLIP (there TRAINER.W)
    node.DESCRIPTIONS = ""  # JSON file with sentences for each class; "" for the 60 templates
    node.TEXT_RATIO = 0.2  # share of the adapter's output (ours, as the next two: fixed there)
    node.IMAGE_RATIO = 0.1
    node.REDUCTION = 4  # how much narrower the adapters' bottleneck is
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (CoPrompt's own default is fp16)


def read_descriptions(path: Path, classnames: Sequence[str]) -> list[list[str]]:
    """Read the sentences of each class, {"class name": ["sentence", ...]}.

    Raises:
        ValueError: no such file, or a class without sentences.
    """
    key = f"TRAINER.CoPrompt.DESCRIPTIONS {path}"
    if not path.is_file():
        raise ValueError(f"{key} is no file: give one, or nothing for the 60 templates.")
    content = read_json(path)
    pairs = content.items() if isinstance(content, Mapping) else ()
    known = {name.replace("_", " "): sentences for name, sentences in pairs}
    described = [known.get(name.replace("_", " ")) for name in classnames]
    for name, found in zip(classnames, described, strict=True):
        if not (isinstance(found, list) and found and all(isinstance(s, str) for s in found)):
            raise ValueError(f'{key} needs a list of sentences for the class "{name}": add one.')
    return described


class AdaptedPrompts(nn.Module):
    """The prompts of both towers, and an adapter behind each."""

    def __init__(self, prompts: CoupledPrompts, text: nn.Module, image: nn.Module) -> None:
        super().__init__()
        self.prompts, self.text, self.image = prompts, text, image

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return text prompts (J, T, d_t) and vision prompts (J, T, d_v)."""
        return self.prompts()


class AdaptedPromptedCLIP(PromptedCLIP):
    """Classifies by adapted features of prompted towers."""

    def encode_image(self, images: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        features = super().encode_image(images, prompts)
        return self.prompt_learner.image(features) if len(prompts) else features  # else frozen

    def encode_text(self, prompts: Sequence[Tensor | None]) -> Tensor:
        return self.prompt_learner.text(super().encode_text(prompts))


@TRAINER_REGISTRY.register()
class CoPrompt(MaPLe):
    """Trains by cross entropy, and W times the distances to the features of the frozen CLIP.

        W ((1 - cos(f, f0)) + (1 - cos(g, g0)))

    f0 is of another view of the image (DATALOADER.K_TRANSFORMS 2), g0 of a sentence drawn.
    """

    node = "CoPrompt"
    training_only = ("PREC", "W", "DESCRIPTIONS")
    pure_step = False  # sentences are drawn

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options, width = self.options, self.backbone.text.joint_width
        prompts, template = self.build_prompts(generator)
        ratios = (options.TEXT_RATIO, options.IMAGE_RATIO)
        text, image = (ResidualAdapter(width, options.REDUCTION, r, generator) for r in ratios)
        learner = AdaptedPrompts(prompts, text, image)
        return AdaptedPromptedCLIP(self.backbone, learner, classnames, template)

    def build_model(self) -> None:
        super().build_model()
        if not getattr(self.dm.dataset, "test_only", False):  # a variant of ImageNet: no training
            self.sentences = self.encode_sentences(self.model.classnames)

    def encode_sentences(self, classnames: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return features (N, D) of all sentences; of each class the first one, and how many."""
        if path := self.options.DESCRIPTIONS:
            texts = read_descriptions(Path(path), classnames)
        else:
            columns = [class_prompts(classnames, template) for template in IMAGENET_TEMPLATES]
            texts = list(zip(*columns, strict=True))
        counts, backbone = torch.tensor([len(each) for each in texts]), self.backbone
        key = {"backbone": backbone.sha256, "precision": backbone.precision, "sentences": texts}
        features = cached(key, self.device, partial(self.encode, texts))
        return features, (counts.cumsum(0) - counts).to(self.device), counts.to(self.device)

    @torch.no_grad()
    def encode(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Encode the sentences of all classes one after the other by the frozen CLIP: (N, D)."""
        flat, tokenizer = [text for each in texts for text in each], self.backbone.tokenizer
        with autocast(self.backbone.precision, self.device):
            features = encode_texts(self.backbone.model, flat, tokenizer=tokenizer)
        return F.normalize(features.float(), dim=-1)

    def draw_sentences(self) -> Tensor:
        """Return the frozen features (C, D) of one sentence of each class."""
        features, first, counts = self.sentences
        return features[first + (torch.rand((), device=self.device) * counts).long()]

    def parse_batch_train(self, batch: Mapping) -> tuple[Tensor, Tensor]:
        views = batch["img"]  # a list where there are several
        images = torch.stack(views) if isinstance(views, list) else views
        return super().parse_batch_train({**batch, "img": images})

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        model, weight = self.model, self.options.W
        images, other = images if images.ndim == 5 else (images, images)
        text_prompts, vision_prompts = model.prompt_learner()
        image = model.image_features(images, vision_prompts)
        text = model.text_features(text_prompts)
        logits = model.logits(image, text)
        with torch.no_grad():
            frozen = {"image": model.image_features(other), "text": self.draw_sentences()}
        terms = {"loss_ce": F.cross_entropy(logits, labels)}
        for name, features in (("image", image), ("text", text)):
            terms[f"loss_{name}"] = weight * knowledge_guidance(features, frozen[name])
        return terms, logits
