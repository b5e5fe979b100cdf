"""Refuse settings that a run would record and never read: keys of other methods, keys without use.

A key that is at its default is in nobody's way. What the data or the weights decide is checked
where these are known.
"""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from functools import cache
from typing import Any, NamedTuple

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY

from datasets.image_folder import ImageFolder
from prompting import tokenize
from trainers import requires_training
from trainers.coop import context_init

Values = Mapping[str, Any]  # of all keys, by their dotted names


class Reader(NamedTuple):
    """Name who reads a key; `text` follows "is read only"."""

    text: str
    holds: Callable[[Values], bool]


def where(key: str, *values: Any) -> Reader:
    return Reader(
        f"where {key} is {' or '.join(map(str, values))}", lambda all_: all_[key] in values
    )


def method(*names: str) -> Reader:
    return Reader(f"by {', '.join(names)}", where("TRAINER.NAME", *names).holds)


def transform(name: str) -> Reader:
    text = f"where INPUT.TRANSFORMS has {name}"
    return Reader(text, lambda all_: name in all_["INPUT.TRANSFORMS"])


def both(one: Reader, other: Reader) -> Reader:
    text = f"{one.text} and {other.text.removeprefix('where ')}"
    return Reader(text, lambda all_: one.holds(all_) and other.holds(all_))


def _words_set_n_ctx(node: str) -> Reader:
    """N_CTX next to words is what their tokens are, as CoOp counts; ProGrad fills up to it."""

    def holds(all_: Values) -> bool:
        words = context_init(all_[f"TRAINER.{node}.CTX_INIT"])
        if not words or all_["TRAINER.NAME"] == "ProGrad":
            return True
        return int(tokenize([words]).end) - 1 == all_[f"TRAINER.{node}.N_CTX"]

    return Reader(f"where TRAINER.{node}.CTX_INIT is empty or has so many tokens", holds)


def _own_images(all_: Values) -> bool:
    """Return whether the data set is ImageFolder, or a class made of it (docs/own-tables.md)."""
    name = all_["DATASET.NAME"]
    known = name in DATASET_REGISTRY.registered_names()
    return known and issubclass(DATASET_REGISTRY.get(name), ImageFolder)


def _splits_at_random(all_: Values) -> bool:
    return _own_images(all_) and not all_["DATASET.IMAGE_FOLDER.SPLIT_FILE"]


# No method, data set or loader of this code base reads these: they are Dassl's, for other trainers.
NEVER = (
    "VERSION", "DATASET.SOURCE_DOMAINS", "DATASET.TARGET_DOMAINS", "DATASET.NUM_LABELED",
    "DATASET.VAL_PERCENT", "DATASET.STL10_FOLD", "DATASET.CIFAR_C_*", "DATASET.ALL_AS_UNLABELED",
    "DATALOADER.RETURN_IMG0", "DATALOADER.TRAIN_X.N_*", "DATALOADER.TRAIN_U.*", "MODEL.HEAD.*",
    "MODEL.BACKBONE.PRETRAINED", "OPTIM.STAGED_LR", "OPTIM.NEW_LAYERS", "OPTIM.BASE_LR_MULT",
    "TRAIN.COUNT_ITER", "TRAINER.COOP.ALPHA", "LOSS.NAME", "LOSS.ALPHA", "LOSS.GM",
)  # fmt: skip
WARMUP = Reader("where OPTIM.WARMUP_EPOCH is above 0", lambda all_: all_["OPTIM.WARMUP_EPOCH"] > 0)
TESTED = where("TEST.NO_TEST", False)
LEARNING_RATE = Reader(
    "by methods other than LPPlusPlus, whose step sizes follow from the data",
    lambda all_: all_["TRAINER.NAME"] != "LPPlusPlus",
)
# The first pattern that fits a key is the one that counts.
READERS: dict[str, Reader] = {
    "INPUT.CROP_PADDING": transform("random_crop"),
    "INPUT.RRCROP_SCALE": transform("random_resized_crop"),
    "INPUT.CUTOUT_*": transform("cutout"),
    "INPUT.GN_*": transform("gaussian_noise"),
    "INPUT.RANDAUGMENT_*": transform("randaugment"),
    "INPUT.COLORJITTER_*": transform("colorjitter"),
    "INPUT.RGS_P": transform("randomgrayscale"),
    "INPUT.GB_*": transform("gaussian_blur"),
    "DATASET.IMAGE_FOLDER.*": Reader("where DATASET.NAME is ImageFolder", _own_images),
    "DATASET.SPLIT_SEED": Reader(
        "where a split is random (ImageFolder without a SPLIT_FILE, DATASET.NEW_SPLIT True)",
        lambda all_: all_["DATASET.NEW_SPLIT"] or _splits_at_random(all_),
    ),
    "DATALOADER.K_TRANSFORMS": method("CoPrompt"),  # others take one view of an image
    "OPTIM.LR*": LEARNING_RATE,
    "OPTIM.WARMUP_EPOCH": LEARNING_RATE,
    "OPTIM.MOMENTUM": where("OPTIM.NAME", "sgd", "rmsprop"),
    "OPTIM.SGD_*": where("OPTIM.NAME", "sgd"),
    "OPTIM.RMSPROP_ALPHA": where("OPTIM.NAME", "rmsprop"),
    "OPTIM.ADAM_BETA?": where("OPTIM.NAME", "adam", "amsgrad", "radam", "adamw"),
    "OPTIM.STEPSIZE": where("OPTIM.LR_SCHEDULER", "single_step", "multi_step"),
    "OPTIM.GAMMA": where("OPTIM.LR_SCHEDULER", "single_step", "multi_step"),
    "OPTIM.WARMUP_CONS_LR": both(WARMUP, where("OPTIM.WARMUP_TYPE", "constant")),
    "OPTIM.WARMUP_MIN_LR": both(WARMUP, where("OPTIM.WARMUP_TYPE", "linear")),
    "OPTIM.WARMUP_TYPE": WARMUP,
    "OPTIM.WARMUP_RECOUNT": WARMUP,
    "TEST.FINAL_MODEL": TESTED,
    "TEST.SPLIT": TESTED,
    "TEST.PER_CLASS_RESULT": TESTED,
    "TEST.COMPUTE_CMAT": TESTED,
    "TRAINER.COOP.N_CTX": _words_set_n_ctx("COOP"),
    "TRAINER.COOP.W": method("KgCoOp"),  # TCP's is fixed at the default
    "TRAINER.COOP.TCP_LAYER": method("TCP"),
    "TRAINER.COOP.TEMPLATE": method("KgCoOp", "ProGrad", "TCP"),
    "TRAINER.COOP.CLASS_TOKEN_POSITION": method("CoOp", "KgCoOp", "ProGrad"),
    "TRAINER.COCOOP.N_CTX": _words_set_n_ctx("COCOOP"),
    "TRAINER.MMLOP.*_LOSS_WEIGHT": where("TRAINER.MMLOP.SCL", True),
    "TRAINER.MMLOP.LOGITS_LOSS": where("TRAINER.MMLOP.SCL", True),
    "TRAINER.MMLOP.RANK": where("TRAINER.MMLOP.LOW_RANK", True),
    "TRAINER.MMLOP.SHARED_UP": where("TRAINER.MMLOP.LOW_RANK", True),
    "TRAINER.MMLOP.UP_PER_LAYER": where("TRAINER.MMLOP.LOW_RANK", True),
    "TRAINER.MMLOP.INIT_STD": where("TRAINER.MMLOP.LOW_RANK", True),
    "MODEL.INIT_WEIGHTS": Reader(
        "by methods other than LPPlusPlus, TipAdapter and TipAdapterF, which begin with the shots",
        lambda all_: all_["TRAINER.NAME"] not in ("LPPlusPlus", "TipAdapter", "TipAdapterF"),
    ),
    "TRAINER.TIPADAPTER.SEARCH_BETA": Reader(
        "where TRAINER.TIPADAPTER.SEARCH_ALPHA is above 0",
        lambda all_: all_["TRAINER.TIPADAPTER.SEARCH_ALPHA"] > 0,
    ),
    "LOSS.*": method("ProGrad"),
}
EXACT = (".N_CTX",)  # these are compared with what is used, whatever their default is


def own_node(name: str) -> str:
    """Return the name of the method's node below TRAINER; "" where it is not known."""
    known = name in TRAINER_REGISTRY.registered_names()
    return getattr(TRAINER_REGISTRY.get(name), "node", "") if known else ""


def of_another_method(key: str, name: str) -> bool:
    """Return whether a key belongs to a node of other methods than this one."""
    node = own_node(name)
    if not node or key == "TRAINER.NAME":
        return False
    if key.startswith("LOSS."):
        return name != "ProGrad"
    return key.startswith("TRAINER.") and not key.startswith(f"TRAINER.{node}.")


def check_read(values: Values, defaults: Values, given: Iterable[str], source: str = "") -> None:
    """Refuse a given key that the run does not read.

    Args:
        values: of all keys, where those given were decided: in the files, or in the whole run.
        defaults: of all keys.
        given: keys that the user set.
        source: of these keys, to begin the message with.

    Raises:
        ValueError: the key, and who reads it.
    """
    name = values["TRAINER.NAME"]
    for key in given:
        if of_another_method(key, name):
            readers = ", ".join(_methods_of(key.split(".")[1])) or "ProGrad"
            raise ValueError(
                f"{source}{key} is read by {readers}, and this run's method is {name}: drop it, or "
                "pass another --trainer."
            )
        # A table's pairs go to all its runs: how others train is nothing to zero-shot CLIP.
        if key.startswith(("OPTIM.", "INPUT.")) and not requires_training(name):
            continue
        reader = _reader(key)
        usual = values[key] == defaults.get(key) and not key.endswith(EXACT)
        if reader and not usual and not reader.holds(values):
            raise ValueError(f"{source}{key} is read only {reader.text}: drop it, or set that too.")


def check_never(values: Values, defaults: Values) -> None:
    """Refuse a value that nothing reads.

    Raises:
        ValueError: the key.
    """
    for key, value in values.items():
        if _is_never(key) and value != defaults[key]:
            raise ValueError(
                f"{key} is {value!r}, and no method or data set here reads it: drop it (it stays "
                f"{defaults[key]!r})."
            )


@cache
def _reader(key: str) -> Reader | None:
    return next((reader for pattern, reader in READERS.items() if fnmatch(key, pattern)), None)


@cache
def _is_never(key: str) -> bool:
    return any(fnmatch(key, pattern) for pattern in NEVER)


def _methods_of(node: str) -> list[str]:
    return sorted(n for n in TRAINER_REGISTRY.registered_names() if own_node(n) == node)
