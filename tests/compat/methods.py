"""The methods to compare, and how the originals' parameters are called here."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

# Widths of the towers, and their layers. MaPLe, CoPrompt and TCP are written for the widths of
# ViT-B/16, CLIP-Adapter for the joint width of RN50.
SIZES = {
    "narrow": dict(text=128, vision=192, layers=12),
    "maple": dict(text=512, vision=768, layers=3),
    "coprompt": dict(text=512, vision=768, layers=12, joint=512),
    "tcp": dict(text=512, vision=64, layers=9),
    "adapter": dict(text=128, vision=192, layers=2, joint=1024),
}
Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Method:
    """One comparison.

    Attributes:
        trainer: its registered name, there and here.
        config: their YAML below configs/trainers.
        options: KEY VALUE pairs for both.
        convert: from parameters by their names to parameters by ours; also takes gradients.
        sizes: of the tiny CLIP.
        losses: from their name of a loss in the step's log to ours.
        loop: whether the original is a loop over loaders instead of a Dassl trainer.
        theirs, ours: KEY VALUE pairs for one side alone.
        own_config: our YAML, where theirs has keys that ours does not know.
        note: what sets it apart from another of the same trainer.
    """

    trainer: str
    config: str
    convert: Callable[[Values], dict[str, Tensor]]
    options: tuple[str, ...] = ()
    sizes: str = "narrow"
    losses: Mapping[str, str] = field(default_factory=lambda: {"loss": "loss"})
    loop: bool = False
    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    own_config: str = ""
    note: str = ""

    @property
    def label(self) -> str:
        return f"{self.trainer} ({self.note})" if self.note else self.trainer


def context(theirs: Values) -> dict[str, Tensor]:
    """CoOp's context, and the small network of CoCoOp and TCP."""
    names = {"linear1": "0", "linear2": "2"}
    return {
        re.sub("linear[12]", lambda m: names[m[0]], name.removeprefix("prompt_learner.")): value
        for name, value in theirs.items()
    }


def towers(theirs: Values) -> dict[str, Tensor]:
    """Prompts that lie in the blocks of MaPLe's `clip`: layer 1, then the others in order."""
    first = {"text": "prompt_learner.ctx", "vision": "image_encoder.VPT"}
    blocks = {"text": "text_encoder.", "vision": "image_encoder."}
    found = {}
    for tower, name in first.items():
        deeper = [key for key in theirs if re.match(rf"{blocks[tower]}.*VPT_shallow$", key)]
        if name in theirs:
            deeper.sort(key=lambda key: int(re.search(r"resblocks\.(\d+)", key)[1]))
            found[tower] = torch.stack([theirs[key] for key in (name, *deeper)])
    return found


def coupled(theirs: Values) -> dict[str, Tensor]:
    """MaPLe: text prompts, and their projections."""
    theirs = {name.removeprefix("prompt_learner."): value for name, value in theirs.items()}
    deeper = [value for name, value in theirs.items() if name.startswith("compound_prompts_text.")]
    found = {"text": torch.stack([theirs["ctx"], *deeper])}
    for kind in ("weight", "bias"):
        found[f"projections.0.{kind}"] = theirs[f"proj.{kind}"]
        for index in range(len(deeper)):
            value = theirs[f"compound_prompt_projections.{index}.{kind}"]
            found[f"projections.{index + 1}.{kind}"] = value
    return found


def coupled_and_adapted(theirs: Values) -> dict[str, Tensor]:
    """CoPrompt: MaPLe's, and the two layers of an adapter behind each tower."""
    found = {f"prompts.{name}": value for name, value in coupled(theirs).items()}
    for tower in ("text", "image"):
        for own, index in (("down", 0), ("up", 2)):
            found[f"{tower}.{own}.weight"] = theirs[f"adapter_{tower}.fc.{index}.weight"]
    return found


def adapters(theirs: Values) -> dict[str, Tensor]:
    """MMA: its lists count layers from 0, and ours start at the first layer with adapters."""
    found = {}
    for name, value in theirs.items():
        tower, index, *middle, kind = name.removeprefix("adapter_learner.").split(".")
        tower = tower.removesuffix("_adapter").replace("visual", "vision")
        part = "" if tower == "shared" else f"_{middle[0]}"
        found[f"{tower}{part}.{int(index) - FIRST}.{kind}"] = value
    return found


def lora(theirs: Values) -> dict[str, Tensor]:
    """CLIP-LoRA: a module for each matrix of each block."""
    found = {}
    for tower, blocks in (("text", "transformer"), ("vision", "visual.transformer")):
        for part, letter in (("down", "A"), ("up", "B")):
            layers = [
                torch.stack([theirs[f"{blocks}.resblocks.{i}.attn.{m}_proj.w_lora_{letter}"]
                             for m in "qkv"])
                for i in range(SIZES["narrow"]["layers"])
            ]  # fmt: skip
            found[f"{tower}_{part}"] = torch.stack(layers)
    return found


def bottleneck(theirs: Values) -> dict[str, Tensor]:
    """CLIP-Adapter: the two layers of its sequence."""
    names = {"fc.0.weight": "image.down.weight", "fc.2.weight": "image.up.weight"}
    return {names[name]: value for name, value in theirs.items()}


def residuals(theirs: Values) -> dict[str, Tensor]:
    """TaskRes: one tensor."""
    return {"residuals": theirs["prompt_learner.text_feature_residuals"]} if theirs else {}


def representation(theirs: Values) -> dict[str, Tensor]:
    """MMRL: its tokens, and their maps by layer."""
    names = {"compound_rep_tokens_r2tproj": "text", "compound_rep_tokens_r2vproj": "vision"}
    names |= {"compound_rep_tokens": "tokens", "image_encoder.proj_rep": "proj"}
    found = {}
    for name, value in theirs.items():
        first, *rest = name.removeprefix("representation_learner.").split(".")
        own = names.get(name) or ".".join([names[first], *rest])
        found[own] = value
    return found


def norms(theirs: Values) -> dict[str, Tensor]:
    """2SFS: the layer norms of the blocks, where they are, and the classifier."""
    found = {name: value for name, value in theirs.items() if name == "classifier"}
    parts = [f"ln_{norm}.{part}" for norm in (1, 2) for part in ("weight", "bias")]
    for tower, blocks in (("text", "transformer"), ("vision", "visual.transformer")):
        if f"{blocks}.resblocks.0.ln_1.weight" in theirs:
            layers = range(SIZES["narrow"]["layers"])
            rows = [[theirs[f"{blocks}.resblocks.{i}.{p}"] for p in parts] for i in layers]
            found[tower] = torch.stack([torch.stack(row) for row in rows])
    return found


def probe(theirs: Values) -> dict[str, Tensor]:
    """LP++: its alphas have a dimension more."""
    return {**theirs, "alpha": theirs["alpha"].flatten()}


def fp32(node: str) -> tuple[str, str]:
    return f"TRAINER.{node}.PREC", "fp32"


# CoPrompt's for Caltech101, which its train.py sets; and a sentence for each class.
PUBLISHED = tuple(
    word
    for key, value in (("N_CTX", "4"), ("PROMPT_DEPTH", "12"), ("W", "4.0"))
    for word in (f"TRAINER.CoPrompt.{key}", value)
)
DESCRIPTIONS = Path(__file__).with_name("descriptions.json")
# MaPLe's tiny CLIP has 3 layers. MMA counts from 1.
DEPTH, FIRST, LAST = 3, 4, 12
COOP = (*fp32("COOP"), "TRAINER.COOP.N_CTX", "4")
COOP_YAML = "CoOp/vit_b16_ep50.yaml"
WORDS = ("TRAINER.COOP.CTX_INIT", "True")
GUIDED = (*WORDS, "TRAINER.COOP.W", "8.0")
CLASSWISE = ("TRAINER.COOP.CSC", "True", "TRAINER.COOP.CLASS_TOKEN_POSITION", "middle")
FRONT = ("TRAINER.COOP.CLASS_TOKEN_POSITION", "front")
LAYERS = ("TRAINER.MMADAPTER.ADAPTER_START", str(FIRST), "TRAINER.MMADAPTER.ADAPTER_END", str(LAST))
METHODS = {
    "coop": (
        Method("ZeroshotCLIP", COOP_YAML, context),
        Method("ZeroshotCLIP2", COOP_YAML, context),
        Method("CoOp", COOP_YAML, context, COOP),
        Method("CoOp", COOP_YAML, context, (*COOP, *CLASSWISE), note="a context each, middle"),
        Method("CoOp", COOP_YAML, context, (*COOP, *FRONT), note="front"),
        Method("CoCoOp", "CoCoOp/vit_b16_c4_ep10_batch1_ctxv1.yaml", context, fp32("COCOOP")),
    ),
    "kgcoop": (Method("KgCoOp", "KgCoOp/vit_b16_ep100_ctxv1.yaml", context, (*COOP, *GUIDED)),),
    "prograd": (
        Method(
            "ProGrad",
            "ProGrad/rn50_ep100.yaml",
            context,
            (*COOP, *WORDS, "LOSS.NAME", "prograd"),
            losses={"xe_loss": "loss_ce", "kl_loss": "loss_general"},
        ),
    ),
    "maple": (
        Method("VPT", "VPT/vit_b16_c2_ep5_batch4_4.yaml", towers, fp32("VPT")),
        Method("IVLP", "IVLP/vit_b16_c2_ep5_batch4_2+2ctx.yaml", towers, fp32("IVLP")),
        Method(
            "MaPLe",
            "MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml",
            coupled,
            (*fp32("MAPLE"), "TRAINER.MAPLE.PROMPT_DEPTH", str(DEPTH)),
            sizes="maple",
        ),
    ),
    "coprompt": (
        Method(
            "CoPrompt",
            "coprompt.yaml",
            coupled_and_adapted,
            fp32("CoPrompt"),
            sizes="coprompt",
            own_config="CoPrompt/base2new.yaml",
            ours=(*PUBLISHED, "TRAINER.CoPrompt.DESCRIPTIONS", str(DESCRIPTIONS)),
        ),
    ),
    "promptsrc": (
        Method(
            "PromptSRC",
            "PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx.yaml",
            towers,
            fp32("PROMPTSRC"),
        ),
    ),
    "tcp": (Method("TCP", "TCP/vit_b16_ep100_ctxv1.yaml", context, (*COOP, *WORDS), sizes="tcp"),),
    "mma": (
        Method(
            "MultiModalAdapter",
            "MultiModalAdapter/vit_b16_ep5.yaml",
            adapters,
            (*fp32("MMADAPTER"), *LAYERS),
        ),
    ),
    "lora": (
        Method(
            "CLIPLoRA",
            "CLIPLoRA/base2new.yaml",
            lora,
            (*fp32("CLIPLORA"), "TRAINER.CLIPLORA.DROPOUT", "0"),
            loop=True,
        ),
    ),
    "clip_adapter": (
        Method("CLIPAdapter", "CLIPAdapter/few_shot.yaml", bottleneck, sizes="adapter", loop=True),
    ),
    "two_stage": tuple(
        Method(
            "TwoStage",
            "TwoStage/base2new.yaml",
            norms,
            (*fp32("TWOSTAGE"), "TRAINER.TWOSTAGE.FIRST_STAGE", share),
            loop=True,
            note=note,
        )
        for share, note in (("0.6", "layer norms"), ("0.0", "classifier"))
    ),
    "mmrl": (
        Method(
            "MMRL",
            "MMRL/vit_b16.yaml",
            representation,
            (*fp32("MMRL"), "TRAINER.MMRL.REP_DIM", "48", "TRAINER.MMRL.REG_WEIGHT", "2.0"),
            theirs=("TASK", "FS"),
        ),
    ),
    "lp_plus_plus": (Method("LPPlusPlus", "LPPlusPlus/few_shot.yaml", probe, loop=True),),
    "taskres": (
        Method(
            "TaskRes",
            "TaskRes/adam_lr2e-3_B256_ep100.yaml",
            residuals,
            (*fp32("TaskRes"), "TRAINER.TaskRes.RESIDUAL_SCALE", "0.5"),
        ),
    ),
    "tip": (Method("TipAdapterF", "TipAdapterF/few_shot.yaml", dict, loop=True),),
}
