"""2SFS: layer norms of both towers first, then a classifier on them (arXiv 2503.11609)."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from torch.func import functional_call
from yacs.config import CfgNode

from prompting import NoPrompts, PromptedCLIP, encode_image, encode_text
from prompting.backbone import require_openai
from prompting.templates import DEFAULT_TEMPLATE
from trainers.step_schedule import StepSchedule

TOWERS = {"text": "transformer", "vision": "visual.transformer"}
NORMS = [f"ln_{norm}.{part}" for norm in (1, 2) for part in ("weight", "bias")]


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.TWOSTAGE (ours; the code base takes these from its command line)."""
    node = cfg.TRAINER.TWOSTAGE = CfgNode()
    node.FIRST_STAGE = 0.6  # share of the epochs that train the layer norms
    node.EPOCH_STEPS = 0  # steps of an epoch, per shot; 0: each image once
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16


class NormsAndClassifier(NoPrompts):
    """The layer norms of all blocks, `text` and `vision` (layers, 4, d), and a classifier (C, D).

    A class whose row of the classifier is zero has none: its text feature counts.
    """

    def __init__(self, model: CLIP, classes: int) -> None:
        super().__init__()
        for tower, blocks in TOWERS.items():
            layers = model.get_submodule(blocks).resblocks
            rows = [torch.stack([block.get_parameter(n) for n in NORMS]) for block in layers]
            setattr(self, tower, nn.Parameter(torch.stack(rows).float()))
        self.classifier = nn.Parameter(torch.zeros(classes, model.text_projection.shape[1]))

    def norms(self, tower: str) -> dict[str, Tensor]:
        """Return a tower's layer norms by their names in CLIP."""
        blocks = TOWERS[tower]
        return {
            f"clip.{blocks}.resblocks.{layer}.{name}": value
            for layer, values in enumerate(getattr(self, tower))
            for name, value in zip(NORMS, values, strict=True)
        }


class _Encoder(nn.Module):
    """Calls a function of CLIP, whose parameters `functional_call` replaces meanwhile."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, function: Callable[..., Tensor], *arguments: object) -> Tensor:
        return function(self.clip, *arguments)


class TunedCLIP(PromptedCLIP):
    """Classifies with its own layer norms, by the classifier's rows or the text."""

    def encode_image(self, images: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        norms = self.prompt_learner.norms("vision")
        return functional_call(_Encoder(self.clip), norms, (encode_image, images, prompts))

    def encode_text(self, prompts: Sequence[Tensor | None]) -> Tensor:
        norms, tokens = self.prompt_learner.norms("text"), self.tokenized_prompts
        return functional_call(_Encoder(self.clip), norms, (encode_text, tokens, prompts))

    def correct(self, text: Tensor) -> Tensor:
        """Return the rows of the classifier, and text features where it has none."""
        rows = self.prompt_learner.classifier
        return torch.where(rows.any(dim=1, keepdim=True), F.normalize(rows, dim=-1), text)


@TRAINER_REGISTRY.register()
class TwoStage(StepSchedule):
    """Trains the layer norms, then, from the text features on, the classifier."""

    node = "TWOSTAGE"
    training_only = ("PREC", "FIRST_STAGE", "EPOCH_STEPS")
    needed = (*StepSchedule.needed, "classnames")
    pure_step = False  # it depends on the stage

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        require_openai(self.backbone, "TwoStage")
        learner = NormsAndClassifier(self.backbone.model, len(classnames))
        return TunedCLIP(self.backbone, learner, classnames, DEFAULT_TEMPLATE)

    @property
    def first_epochs(self) -> int:
        """Return how many epochs train the layer norms."""
        return round(self.options.FIRST_STAGE * self.max_epoch)

    def epochs_of_schedule(self) -> tuple[int, int]:
        first = self.first_epochs
        return (0, first) if self.epoch < first else (first, self.max_epoch - first)

    def before_epoch(self) -> None:
        """Begin the classifier with the text features, where the second stage begins."""
        super().before_epoch()
        classifier = self.model.prompt_learner.classifier
        if self.epoch >= self.first_epochs and not classifier.any():
            with torch.no_grad():
                classifier.copy_(self.model.text_features(()))

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        model, first = self.model, self.epoch < self.first_epochs
        with torch.set_grad_enabled(first):
            image = model.image_features(images)
        text = model.text_features(()) if first else model.prompt_learner.classifier
        logits = model.logits(image, F.normalize(text, dim=-1))
        return {"loss_ce": F.cross_entropy(logits, labels)}, logits

    def adapt_checkpoint(self, checkpoint: Mapping) -> Mapping:
        """Give each class here its row, or none where it was not trained on."""
        state, names = checkpoint["state_dict"], list(self.dm.dataset.classnames)
        # ImageNet has two classes of one name, of which a mapping would keep one.
        if "classifier" not in state or checkpoint["classnames"] == names:
            return checkpoint
        rows = dict(zip(checkpoint["classnames"], state["classifier"], strict=True))
        none = torch.zeros_like(state["classifier"][0])
        own = torch.stack([rows.get(name, none) for name in names])
        return {**checkpoint, "state_dict": {**state, "classifier": own}}
