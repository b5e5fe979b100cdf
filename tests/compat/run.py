"""Proves on your own checkouts that the family's code and ours run in each other's place.

    python tests/compat/run.py --coop CoOp --maple multimodal-prompt-learning \
        --promptsrc PromptSRC --dassl Dassl.pytorch

Nothing in the checkouts is changed and nothing is downloaded: CLIP's weights are random and small,
the data set has 24 images. Each check runs in processes of its own and prints one line, with what
was put in from outside in brackets; the exit status is 1 if any failed. Without a checkout its
checks are left out. docs/compatibility.md says what the checks do.
"""

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import torch
from bench import (
    ENGINE,
    OURS,
    Bench,
    Failed,
    Outcome,
    Place,
    documented,
    execute,
    parse_checkouts,
    report,
)
from torch import Tensor

MERGE = Path(__file__).with_name("merge.py")
CHECKOUTS = {
    "coop": ("KaiyangZhou/CoOp", "trainers/coop.py"),
    "maple": ("muzairkhattak/multimodal-prompt-learning", "trainers/maple.py"),
    "promptsrc": ("muzairkhattak/PromptSRC", "trainers/promptsrc.py"),
    "dassl": ("KaiyangZhou/Dassl.pytorch", "dassl/engine/dg"),
}

# One published configuration for each trainer of a checkout.
COOP = {
    "CoOp": "CoOp/vit_b16_ep50.yaml",
    "CoCoOp": "CoCoOp/vit_b16_c4_ep10_batch1_ctxv1.yaml",
    "ZeroshotCLIP": "CoOp/vit_b16.yaml",
    "ZeroshotCLIP2": "CoOp/vit_b16.yaml",
}
FAMILY = {
    "coop": COOP,
    "maple": {
        "MaPLe": "MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml",
        "IVLP": "IVLP/vit_b16_c2_ep5_batch4_2+2ctx.yaml",
        "VPT": "VPT/vit_b16_c2_ep5_batch4_4.yaml",
        **COOP,
    },
    "promptsrc": {
        "PromptSRC": "PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx.yaml",
        "MaPLe": "MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml",
        "IVLP": "IVLP/vit_b16_c2_ep20_batch4_4+4ctx.yaml",
        **COOP,
    },
}
QUICK = ("DATASET.NUM_SHOTS", "2", "DATALOADER.NUM_WORKERS", "0")
SIDE = "(32, 32)"  # of the images that the deep CLIP takes
MMLOP = (
    *("--trainer", "MMLoP", "--config-file", "configs/trainers/MMLoP/base2new.yaml"),
    *("--seed", "1", *QUICK, "OPTIM.MAX_EPOCH", "3", "TRAIN.CHECKPOINT_FREQ", "1"),
    *("INPUT.SIZE", SIDE),
)


def check_trainer(bench: Bench, checkout: Path, trainer: str, config: str) -> str:
    """A trainer of theirs on our engine: an epoch, an evaluation, and the same scores when its
    checkpoint is loaded over another random start."""
    place = Place(checkout, ENGINE)
    method = ("--trainer", trainer, "--config-file", f"configs/trainers/{config}")
    options = (*QUICK, "OPTIM.MAX_EPOCH", "1")
    evaluate = ("--eval-only", "--seed", "2", *method)
    if trainer.startswith("Zeroshot"):
        return f"evaluated{_notes(bench.run(place, bench.wide, (*evaluate, *options)))}"
    load = (*evaluate, "--model-dir", "{}", "--load-epoch", "1", *options)
    done = bench.run(place, bench.wide, ("--seed", "1", *method, *options), load)
    done.checkpoint(1)
    _equal("the scores after loading", done.scores[1], done.scores[0])
    return f"trained, saved, loaded, same scores{_notes(done)}"


def check_configs(bench: Bench, checkout: Path) -> str:
    """All YAML files of a checkout merge on our engine, under their train.py and under ours."""
    files = [str(path) for path in sorted((checkout / "configs").rglob("*.yaml"))]
    for folder in (checkout, OURS):
        bench.launch(Place(folder, ENGINE), str(MERGE), [files], bench.folder())
    return f"{len(files)} files merge, under their train.py and under ours"


@cache
def home(bench: Bench) -> Outcome:
    """MMLoP in its own checkout."""
    return bench.run(Place(OURS, ENGINE), bench.deep, MMLOP)


def check_mmlop(bench: Bench, place: Place) -> str:
    """Check MMLoP elsewhere.

    It trains the same prompts as at home, bit for bit; loaded over another initialisation they
    give the same scores; a run resumed before its last epoch ends at the same rate, and on our
    engine with the same prompts.
    """
    load = ("--eval-only", "--model-dir", "{}", *MMLOP, "SEED", "2")
    done, expected = bench.run(place, bench.deep, MMLOP, load), home(bench)
    trained = done.checkpoint(3)["state_dict"]
    _equal_prompts("trained", trained, expected.checkpoint(3)["state_dict"])
    for which, scores in zip(("after training", "after loading"), done.scores, strict=True):
        _equal(f"the scores {which}", scores, expected.scores[0])
    done.forget_after(2)
    bench.run(place, bench.deep, ("--resume", "{}", *MMLOP), folder=done.folder)
    found, rate = done.checkpoint(3), _rate(expected.checkpoint(3))
    if not math.isclose(_rate(found), rate, rel_tol=1e-9):
        raise Failed(f"the resumed run ends at learning rate {_rate(found)}, expected {rate}")
    if place.engine == ENGINE:
        _equal_prompts("of the resumed run", found["state_dict"], trained)
    return f"same prompts as at home; loaded, same scores; resumed{_notes(done)}"


def _rate(checkpoint: dict) -> float:
    return checkpoint["optimizer"]["param_groups"][0]["lr"]


def drop_in(bench: Bench, checkout: Path) -> Path:
    """A copy of a checkout after the commands of docs/compatibility.md."""
    copy = bench.folder() / checkout.name
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "output"))
    execute(["bash", "-euc", documented("MMLoP in your checkout")], copy, MMLOP=str(OURS))
    return copy


def _equal(what: str, found: Tensor, expected: Tensor) -> None:
    if not torch.isfinite(found).all():
        raise Failed(f"{what} are not finite")
    if not torch.equal(found, expected):
        raise Failed(f"{what} differ by up to {(found - expected).abs().max():.1e}")


def _equal_prompts(which: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    if found.keys() != expected.keys():
        raise Failed(f"the prompts {which} are {sorted(found)}, expected {sorted(expected)}")
    for name, value in found.items():
        _equal(f'the prompts {which}, "{name}",', value, expected[name])


def _notes(done: Outcome) -> str:
    return f" [{'; '.join(done.shims)}]" if done.shims else ""


def checks(bench: Bench, given: dict[str, Path]) -> Iterator[tuple[str, Callable[[], str]]]:
    """What there is to check with these checkouts: a label, and a function that returns what it
    found or raises Failed."""
    for name, trainers in FAMILY.items():
        if name in given:
            here = given[name]
            yield f"{name} YAML on our engine", partial(check_configs, bench, here)
            for trainer, config in trainers.items():
                label = f"{name} {trainer} on our engine"
                yield label, partial(check_trainer, bench, here, trainer, config)
    engines = {"our engine": Place(OURS, ENGINE)}
    if "dassl" in given:
        before = documented("MMLoP on Dassl.pytorch")
        engines["Dassl.pytorch"] = place = Place(OURS, given["dassl"], before)
        yield "MMLoP on Dassl.pytorch", partial(check_mmlop, bench, place)
    for name in ("coop", "maple"):
        if name in given:
            for engine, place in engines.items():
                yield (
                    f"MMLoP in {name}, {engine}",
                    lambda name=name, place=place: check_mmlop(
                        bench, Place(drop_in(bench, given[name]), place.engine, place.before)
                    ),
                )


def main(argv: Sequence[str] | None = None) -> int:
    """Run all checks; returns the exit status."""
    given = parse_checkouts(__doc__, CHECKOUTS, argv)
    with tempfile.TemporaryDirectory() as scratch:
        return report(checks(Bench(Path(scratch)), given))


if __name__ == "__main__":
    sys.exit(main())
