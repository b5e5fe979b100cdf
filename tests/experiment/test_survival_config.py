"""Any configuration either trains a step or is refused in one sentence about what is wrong in it.

SURVIVAL=full tries a thousand of them.
"""

import os

import pytest
from dassl.config import get_cfg_default
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import datasets
import trainers
from experiment import cli
from experiment.config import flatten
from experiment.config_checks import OPTIMIZERS, SAMPLERS, SCHEDULERS, WARMUPS
from trainers.base import PromptTrainer

EXAMPLES = 1000 if os.environ.get("SURVIVAL") == "full" else 30

# Where the run reads and writes, and which data, method and weights it takes; workers cost seconds.
FIXED = (
    "OUTPUT_DIR", "RESUME", "DATASET.ROOT", "DATASET.NAME", "TRAINER.NAME", "MODEL.BACKBONE.NAME",
    "DATALOADER.NUM_WORKERS",
)  # fmt: skip


def known():
    cfg = get_cfg_default()
    datasets.add_config(cfg)
    trainers.add_config(cfg)
    return {key: value for key, value in flatten(cfg).items() if key not in FIXED}


KEYS = known()
WHOLE = st.sampled_from([-(2**40), -2, -1, 0, 1, 2, 3, 16, 77, 2**40]).map(str)
REAL = st.sampled_from(
    ["-1.0", "0.0", "1e-3", "0.5", "1.0", "2.5", "1e30", "1e999", "-1e999", "nan"]
)
WORDS = st.sampled_from(
    [*OPTIMIZERS, *SCHEDULERS, *WARMUPS, *SAMPLERS, "all", "base", "new", "fp32", "bf16", "fp8"]
    + ["bicubic", "val", "best_val", "svd", "zero", "a photo of a", "True", "None", "", "os.mkdir"]
)
LISTS = st.sampled_from(
    ["()", "[]", "(1, 2)", "(0.5, 0.5, 0.5)", "('random_flip', 'cutout')", "('flip',)", "[None]"]
)
ODD = st.sampled_from(["[", "{[]: 1}", "(" * 300, "\x00", "1 if", "{'a': 1}", "b'x'", "..."])
ANY = st.one_of(WHOLE, REAL, WORDS, LISTS, ODD, st.text(max_size=8))


def fitting(key):
    """Values of the key's own type; with others few configurations would get as far as training."""
    kinds = {int: WHOLE, float: REAL | WHOLE, str: WORDS, bool: st.sampled_from(["True", "False"])}
    return kinds.get(type(KEYS[key]), LISTS)


PAIR = st.sampled_from(sorted(KEYS)).flatmap(
    lambda key: st.tuples(st.just(key), st.one_of(fitting(key), fitting(key), ANY))
)


class Trained(BaseException):
    """A step was made."""


@pytest.fixture
def outcome(words, tmp_path, monkeypatch, capsys):
    """Train for one step; returns the exit status, "trained" for None, and what was printed."""
    step = PromptTrainer.forward_backward

    def one_step(self, batch):
        step(self, batch)
        raise Trained

    monkeypatch.setattr(PromptTrainer, "forward_backward", one_step)
    number = iter(range(10**6))

    def call(*pairs):
        arguments = words("MMLoP", f"run{next(number)}", "OPTIM.MAX_EPOCH", "1", *pairs)
        capsys.readouterr()
        with pytest.raises((SystemExit, Trained)) as end:
            cli.main(arguments)
        code = "trained" if isinstance(end.value, Trained) else end.value.code
        return code, capsys.readouterr().err

    return call


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(PAIR, max_size=4, unique_by=lambda pair: pair[0]))
@example([])
@example([("OPTIM.LR", "-0.1")])
@example([("OPTIM.STEPSIZE", "(3, 5)"), ("OPTIM.LR_SCHEDULER", "multi_step")])
@example([("MODEL.BACKBONE.HEAD_WIDTHS", "(1, 2)")])
def test_it_trains_or_says_why_not(outcome, pairs):
    code, printed = outcome(*[word for pair in pairs for word in pair])
    if code == "trained":
        return
    lines = [line for line in printed.splitlines() if line.startswith("train.py: ")]
    assert code in (2, 3) and "Traceback" not in printed, printed
    assert len(lines) == 1 and printed.endswith(lines[0] + "\n"), printed
    named = [key.rpartition(".")[2] for key, _ in pairs] + [value for _, value in pairs if value]
    assert any(word in lines[0] for word in named), printed


REFUSED = {
    "TRAINER.MMLOP.PREC": ("fp8", "PREC must be one of auto, fp32, tf32, amp, bf16, fp16, got "),
    "OPTIM.LR": ("-0.1", "OPTIM.LR must be above 0, got -0.1."),
    "OPTIM.WEIGHT_DECAY": ("1e999", "OPTIM.WEIGHT_DECAY must be a finite number, got inf."),
    "OPTIM.MAX_EPOCH": ("0", "OPTIM.MAX_EPOCH must be at least 1, got 0."),
    "OPTIM.NAME": ("sdg", "OPTIM.NAME must be one of adam, amsgrad, sgd, rmsprop, radam, adamw, "),
    "OPTIM.LR_SCHEDULER": ("cos", "must be one of single_step, multi_step, cosine, got "),
    "OPTIM.STEPSIZE": ("('a',)", "OPTIM.STEPSIZE must be a list of whole numbers, got ('a',)."),
    "OPTIM.SGD_NESTEROV": ("True", "OPTIM.SGD_NESTEROV must be False, or OPTIM.MOMENTUM above 0"),
    "DATALOADER.TRAIN_X.BATCH_SIZE": ("0", "BATCH_SIZE must be at least 1, got 0."),
    "DATALOADER.TRAIN_X.SAMPLER": ("Any", "must be one of RandomSampler, SequentialSampler, got "),
    "DATASET.NUM_SHOTS": ("-2", "DATASET.NUM_SHOTS must be at least 1, or -1 for all, got -2."),
    "DATASET.SUBSAMPLE_CLASSES": ("old", 'must be one of all, base, new, got "old".'),
    "INPUT.TRANSFORMS": ("('flip',)", "INPUT.TRANSFORMS must be names out of random_flip, "),
    "INPUT.INTERPOLATION": ("cubic", 'must be one of bilinear, bicubic, nearest, got "cubic".'),
    "INPUT.PIXEL_STD": ("[1.0, 0.0, 1.0]", "INPUT.PIXEL_STD must be three numbers above 0, got"),
    "TEST.SPLIT": ("vale", 'TEST.SPLIT must be one of test, val, got "vale".'),
    "TRAIN.PRINT_FREQ": ("0", "TRAIN.PRINT_FREQ must be at least 1, got 0."),
    "SEED": (str(2**32), f"SEED must be below 2**32 (and below 0 for none), got {2**32}."),
    "OPTIM.GAMMA": ("None", "Type mismatch: OPTIM.GAMMA takes a value of type float, such as 0.1"),
    "MODEL.BACKBONE.ACTIVATION": ("relu", "must be empty, or one of quick_gelu, gelu, got "),
    "MODEL.BACKBONE.HEAD_WIDTHS": ("(64, 0)", "HEAD_WIDTHS must be two whole numbers above 0, got"),
    "TRAINER.MMLOP.RANK": ("5", "must be between 1 and TRAINER.MMLOP.N_CTX, which is 4, got 5; "),
    "OPTIM.LRR": ("1", 'Unknown key "OPTIM.LRR" in the command line; the nearest known is "OPTIM.'),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_wrong_is_told_before_anything_is_loaded(words, capsys, monkeypatch, key):
    monkeypatch.setattr(cli, "build_trainer", lambda _: pytest.fail("it was built"))
    value, message = REFUSED[key]
    momentum = ("OPTIM.MOMENTUM", "0.0") if key == "OPTIM.SGD_NESTEROV" else ()
    with pytest.raises(SystemExit) as end:
        cli.main(words("MMLoP", "refused", key, value, *momentum))
    printed = capsys.readouterr().err
    assert end.value.code == 2 and message in printed and key in printed
    assert len(printed.splitlines()) == 1


def test_the_names_are_the_engine_s():
    from dassl.data import samplers
    from dassl.optim import lr_scheduler, optimizer

    assert OPTIMIZERS == optimizer.OPTIMIZERS and tuple(samplers.SAMPLERS) == SAMPLERS
    assert (SCHEDULERS, WARMUPS) == (lr_scheduler.SCHEDULERS, lr_scheduler.WARMUPS)
