"""The names that a configuration may hold, and the values of its keys, beyond their types.

What depends on data or weights (a depth that the backbone does not have) is checked where these are
known.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from fnmatch import fnmatch
from functools import cache
from typing import Any, NamedTuple

from dassl.data.transforms.transforms import AVAI_CHOICES, INTERPOLATION_MODES
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import lr_scheduler, optimizer
from yacs.config import CfgNode

from datasets.splits import SUBSAMPLES
from experiment.tracker import TRACKERS
from prompting.architecture import ACTIVATIONS
from prompting.losses import LOGITS_LOSSES
from prompting.precision import WEIGHT_DTYPES
from trainers.base import PromptTrainer


class Rule(NamedTuple):
    text: str  # behind "must be"
    holds: Callable[[Any], bool]


def at_least(low: float) -> Rule:
    return Rule(f"at least {low}", lambda value: value >= low)


def above(low: float) -> Rule:
    return Rule(f"above {low}", lambda value: value > low)


def between(low: float, high: float) -> Rule:
    return Rule(f"between {low} and {high}", lambda value: low <= value <= high)


def one_of(names: Iterable[str]) -> Rule:
    return Rule(f"one of {', '.join(names)}", lambda value: value in names)


def only(value: Any, why: str) -> Rule:
    return Rule(f"{value}, {why}", lambda given: given == value)


def _numbers(values: Any, kinds: type | tuple[type, ...] = (int, float)) -> bool:
    return all(
        isinstance(v, kinds) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )


# The engine's lists; upstream's has other names for them, and none for the last.
OPTIMIZERS = getattr(optimizer, "OPTIMIZERS", ()) or optimizer.AVAI_OPTIMS
SCHEDULERS = getattr(lr_scheduler, "SCHEDULERS", ()) or lr_scheduler.AVAI_SCHEDS
WARMUPS = getattr(lr_scheduler, "WARMUPS", ("constant", "linear"))
SAMPLERS = ("RandomSampler", "SequentialSampler")
SHARE = between(0, 1)
BETA = Rule("at least 0 and below 1", lambda value: 0 <= value < 1)
PIXELS = Rule("three numbers", lambda values: len(values) == 3 and _numbers(values))
PAIR = Rule(
    "two whole numbers above 0",
    lambda pair: len(pair) == 2 and _numbers(pair, int) and min(pair) > 0,
)

# The first pattern that fits a key is the one that counts.
RULES: dict[str, Rule] = {
    "SEED": Rule("below 2**32 (and below 0 for none)", lambda seed: seed < 2**32),
    "INPUT.SIZE": PAIR,
    "INPUT.INTERPOLATION": one_of(tuple(INTERPOLATION_MODES)),
    "INPUT.RESIZE_MODE": one_of(("shortest", "squash")),
    "INPUT.TRANSFORMS": Rule(
        f"names out of {', '.join(AVAI_CHOICES)}, with normalize among them, which CLIP needs",
        lambda names: (
            not isinstance(names, str)
            and all(name in AVAI_CHOICES for name in names)
            and "normalize" in names
        ),
    ),
    "INPUT.NO_TRANSFORM": only(False, "because CLIP takes tensors"),
    "INPUT.PIXEL_MEAN": PIXELS,
    "INPUT.PIXEL_STD": Rule(
        "three numbers above 0", lambda values: PIXELS.holds(values) and min(values) > 0
    ),
    "INPUT.RRCROP_SCALE": Rule(
        "two shares of the area, the smaller one first",
        lambda s: len(s) == 2 and _numbers(s) and 0 < s[0] <= s[1] <= 1,
    ),
    "INPUT.CROP_PADDING": between(0, 1000),
    "INPUT.CUTOUT_*": between(1, 1000),
    "INPUT.GN_STD": at_least(0),
    "INPUT.RANDAUGMENT_N": between(1, 100),
    "INPUT.RANDAUGMENT_M": between(0, 30),
    "INPUT.COLORJITTER_H": between(0, 0.5),
    "INPUT.COLORJITTER_?": at_least(0),
    "INPUT.RGS_P": SHARE,
    "INPUT.GB_P": SHARE,
    "INPUT.GB_K": Rule("odd, from 1 to 99", lambda size: 0 < size < 100 and size % 2 == 1),
    "MODEL.BACKBONE.ACTIVATION": Rule(
        f"empty, or one of {', '.join(ACTIVATIONS)}", lambda name: name in ("", *ACTIVATIONS)
    ),
    "MODEL.BACKBONE.HEAD_WIDTHS": PAIR,
    "DATASET.NUM_SHOTS": Rule("at least 1, or -1 for all", lambda n: n >= 1 or n == -1),
    "DATASET.SUBSAMPLE_CLASSES": one_of(SUBSAMPLES),
    "DATALOADER.NUM_WORKERS": at_least(0),
    "DATALOADER.CACHE_MB": at_least(0),
    "DATALOADER.K_TRANSFORMS": between(1, 2),
    "DATALOADER.*.SAMPLER": one_of(SAMPLERS),
    "DATALOADER.*.BATCH_SIZE": at_least(1),
    "OPTIM.NAME": one_of(OPTIMIZERS),
    "OPTIM.LR": above(0),
    "OPTIM.WEIGHT_DECAY": at_least(0),
    "OPTIM.MOMENTUM": BETA,
    "OPTIM.SGD_DAMPNING": at_least(0),
    "OPTIM.RMSPROP_ALPHA": BETA,
    "OPTIM.ADAM_BETA?": BETA,
    "OPTIM.LR_SCHEDULER": one_of(SCHEDULERS),
    "OPTIM.STEPSIZE": Rule(
        "a list of whole numbers", lambda steps: len(steps) > 0 and _numbers(steps, int)
    ),
    "OPTIM.GAMMA": above(0),
    "OPTIM.MAX_EPOCH": at_least(1),
    "OPTIM.WARMUP_TYPE": one_of(WARMUPS),
    "OPTIM.WARMUP_CONS_LR": at_least(0),
    "OPTIM.WARMUP_MIN_LR": at_least(0),
    "TRAIN.PRINT_FREQ": at_least(1),
    "TRAIN.TRACKER": Rule(
        f'{" or ".join(TRACKERS)}, or "" for none', lambda name: name in ("", *TRACKERS)
    ),
    "TEST.SPLIT": one_of(("test", "val")),
    "TEST.FINAL_MODEL": one_of(("last_step", "best_val")),
    "TEST.EVALUATOR": one_of(("Classification",)),
    "TRAINER.IVLP.N_CTX*": at_least(0),  # MaPLe's files say 0 where the depth is 0
    "TRAINER.MMLOP.INIT": only("normal", "the paper's; other initial values did worse"),
    "TRAINER.MMLOP.INIT_STD": above(0),
    "TRAINER.MMLOP.LOGITS_LOSS": one_of(LOGITS_LOSSES),
    "TRAINER.*.N_CTX*": at_least(1),
    "TRAINER.*CTX_INIT": Rule(
        'the words before the class name, without "{}"', lambda words: "{}" not in words
    ),
    "TRAINER.*.PREC": one_of(("auto", *WEIGHT_DTYPES)),
    "TRAINER.*.TEMPLATE": Rule(
        'empty, or a text with exactly one "{}" for the class name, such as "a photo of a {}."',
        lambda text: not text or text.count("{}") == 1,
    ),
    "TRAINER.*.PROMPT_DEPTH*": at_least(0),
    "TRAINER.*.ADAPTER_DIM": at_least(1),
    "TRAINER.*.ADAPTER_SCALE": above(0),
    "TRAINER.*.GPA_STD": above(0),
    "TRAINER.*.EPOCH_STEPS": at_least(0),
    "TRAINER.CLIPLORA.RANK": at_least(1),
    "TRAINER.CLIPLORA.ALPHA": above(0),
    "TRAINER.CLIPLORA.DROPOUT": BETA,
    "TRAINER.CLIPADAPTER.RATIO": SHARE,
    "TRAINER.CLIPADAPTER.REDUCTION": at_least(1),
    "TRAINER.CoPrompt.W": at_least(0),
    "TRAINER.CoPrompt.*_RATIO": SHARE,
    "TRAINER.CoPrompt.REDUCTION": at_least(1),
    "TRAINER.MMRL.ALPHA": SHARE,
    "TRAINER.MMRL.REG_WEIGHT": at_least(0),
    "TRAINER.MMRL.N_REP_TOKENS": at_least(1),
    "TRAINER.MMRL.REP_DIM": at_least(1),
    "TRAINER.MMRL.REP_LAYERS": Rule(
        "a list of whole numbers", lambda layers: _numbers(layers, int)
    ),
    "TRAINER.TWOSTAGE.FIRST_STAGE": SHARE,
    "TRAINER.TaskRes.RESIDUAL_SCALE": above(0),
    "TRAINER.TIPADAPTER.ALPHA": at_least(0),
    "TRAINER.TIPADAPTER.BETA": above(0),
    "TRAINER.TIPADAPTER.SEARCH_*": at_least(0),
    "TRAINER.TIPADAPTER.AUGMENT_EPOCHS": at_least(1),
    "LOSS.T": above(0),
}
NEAR = 0.6  # from which share on two words are alike; Python's own
FINITE = Rule("a finite number", math.isfinite)
WHOLE = between(-(2**31), 2**31 - 1)


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse the first value that is out of range.

    Args:
        values: by their dotted keys.

    Raises:
        ValueError: the key, the value, and what is allowed.
    """
    for key, value in values.items():
        for rule in _rules(key, value):
            if not rule.holds(value):
                shown = f'"{value}"' if isinstance(value, str) else value
                raise ValueError(f"{key} must be {rule.text}, got {shown}.")
    tokens, rank = values["TRAINER.MMLOP.N_CTX"], values["TRAINER.MMLOP.RANK"]
    limited = values["TRAINER.NAME"] == "MMLoP" and values["TRAINER.MMLOP.LOW_RANK"]
    if limited and not 1 <= rank <= tokens:
        raise ValueError(
            f"TRAINER.MMLOP.RANK must be between 1 and TRAINER.MMLOP.N_CTX, which is {tokens}, got "
            f"{rank}; TRAINER.MMLOP.LOW_RANK False has no such limit."
        )
    if values["OPTIM.SGD_NESTEROV"] and not (
        values["OPTIM.MOMENTUM"] > 0 and values["OPTIM.SGD_DAMPNING"] == 0
    ):
        raise ValueError(
            "OPTIM.SGD_NESTEROV must be False, or OPTIM.MOMENTUM above 0 and OPTIM.SGD_DAMPNING 0, "
            f"got {values['OPTIM.MOMENTUM']} and {values['OPTIM.SGD_DAMPNING']}."
        )


def check_method(cfg: CfgNode, name: str) -> None:
    """Refuse a method of ours whose section of the configuration is missing or incomplete.

    A name that is not known passes.

    Raises:
        ValueError: what the method lacks.
    """
    known = name in TRAINER_REGISTRY.registered_names()
    if not known or not issubclass(method := TRAINER_REGISTRY.get(name), PromptTrainer):
        return
    node = getattr(method, "node", "")
    if not node:
        lack = "sets no `node`, the name of its section of TRAINER"
    elif not isinstance(cfg.TRAINER.get(node), CfgNode):
        lack = f'has the node "{node}", and add_config in its file adds no TRAINER.{node}'
    elif "PREC" not in cfg.TRAINER[node]:
        lack = f'has no TRAINER.{node}.PREC: set node.PREC = "auto" in add_config'
    else:
        return
    raise ValueError(f'{name} {lack} (see CONTRIBUTING.md, "Add a method").')


def choices(name: str, known: Iterable[str]) -> str:
    """Return which names there are, behind the one that an unknown name is most like."""
    known = sorted(known)
    near = get_close_matches(name.lower(), [each.lower() for each in known], 1)
    meant = next((f"did you mean {each}? Else " for each in known if [each.lower()] == near), "")
    return f"{meant}choose {', '.join(known)}"


def nearest_key(key: str, known: Iterable[str]) -> str:
    """Return the key that is most alike, as a whole and in its last part, in capitals.

    "" where none is near: of another section, and its last part is another word.
    """
    section, _, last = key.upper().rpartition(".")

    def alike(one: str, other: str) -> float:
        return SequenceMatcher(None, one, other).ratio()

    def similarity(name: str) -> float:
        return alike(name, key.upper()) + alike(name.split(".")[-1], last)

    best = max(known, key=similarity)
    of_section = section and best.rpartition(".")[0] == section
    return best if of_section or alike(best.split(".")[-1], last) >= NEAR else ""


@cache
def _rules_of(key: str) -> list[Rule]:
    return [rule for pattern, rule in RULES.items() if fnmatch(key, pattern)][:1]


def _rules(key: str, value: Any) -> list[Rule]:
    found = list(_rules_of(key))
    if isinstance(value, float):
        found.insert(0, FINITE)
    if isinstance(value, int) and key != "SEED":
        found.insert(0, WHOLE)
    return found
