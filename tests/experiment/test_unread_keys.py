"""Every setting is read by the run, or refused, or at its default."""

import pytest
from dassl.engine import TRAINER_REGISTRY

from experiment import cli
from experiment.config import defaults, flatten
from experiment.unread_keys import NEVER, READERS, own_node

METHODS = sorted(
    name for name in TRAINER_REGISTRY.registered_names() if own_node(name)
)  # without those that other tests register


def setup(trainer, *words):
    return cli.setup_cfg(cli.parse_args(["--trainer", trainer, "--backbone", "demo", *words]))


OTHERS = {
    ("MMLoP", "TRAINER.MAPLE.N_CTX", "3"): "TRAINER.MAPLE.N_CTX is read by MaPLe, and this run's",
    ("MMLoP", "TRAINER.MAPLE.N_CTX", "2"): "TRAINER.MAPLE.N_CTX is read by MaPLe",  # its default
    ("CoOp", "TRAINER.COCOOP.PREC", "fp32"): "TRAINER.COCOOP.PREC is read by CoCoOp, and",
    ("MaPLe", "TRAINER.COOP.W", "1"): "read by CoOp, KgCoOp, ProGrad, TCP, and this run's method",
    ("KgCoOp", "LOSS.T", "2.0"): "LOSS.T is read by ProGrad, and this run's method is KgCoOp",
    ("MMLoP", "TRAINER.ZSCLIP.TEMPLATE", "{}"): "is read by ZeroshotCLIP, ZeroshotCLIP2, and this",
    # One node serves four methods.
    ("CoOp", "TRAINER.COOP.W", "1.0"): "TRAINER.COOP.W is read only by KgCoOp",
    ("TCP", "TRAINER.COOP.W", "1.0"): "TRAINER.COOP.W is read only by KgCoOp",
    ("CoOp", "TRAINER.COOP.TCP_LAYER", "3"): "is read only by TCP",
    ("CoOp", "TRAINER.COOP.TEMPLATE", "a {}"): "is read only by KgCoOp, ProGrad, TCP",
    ("TCP", "TRAINER.COOP.CLASS_TOKEN_POSITION", "front"): "only by CoOp, KgCoOp, ProGrad",
    ("KgCoOp", "TRAINER.COOP.ALPHA", "0.5"): "no method or data set here reads it",
    ("ProGrad", "LOSS.ALPHA", "0.5"): "no method or data set here reads it",
    ("ProGrad", "LOSS.GM", "True"): "no method or data set here reads it",
    # Settings that others switch off.
    ("CoOp", "TRAINER.COOP.CTX_INIT", "a photo of a", "TRAINER.COOP.N_CTX", "16"): "so many tokens",
    ("CoCoOp", "TRAINER.COCOOP.CTX_INIT", "a photo", "TRAINER.COCOOP.N_CTX", "4"): "so many tokens",
    ("MMLoP", "TRAINER.MMLOP.LOW_RANK", "False", "TRAINER.MMLOP.RANK", "2"): "LOW_RANK is True",
    ("MMLoP", "TRAINER.MMLOP.SCL", "False", "TRAINER.MMLOP.LOGITS_LOSS", "kl"): "SCL is True",
    ("MMLoP", "OPTIM.NAME", "adamw", "OPTIM.MOMENTUM", "0.5"): "OPTIM.NAME is sgd or rmsprop",
    ("MMLoP", "OPTIM.ADAM_BETA1", "0.5"): "where OPTIM.NAME is adam or amsgrad or radam or adamw",
    ("MMLoP", "OPTIM.STEPSIZE", "(3,)"): "where OPTIM.LR_SCHEDULER is single_step or multi_step",
    ("MMLoP", "OPTIM.WARMUP_MIN_LR", "1e-3"): "and OPTIM.WARMUP_TYPE is linear",
    ("MMLoP", "OPTIM.WARMUP_EPOCH", "-1", "OPTIM.WARMUP_RECOUNT", "False"): "is above 0",
    ("MMLoP", "INPUT.COLORJITTER_H", "0.2"): "where INPUT.TRANSFORMS has colorjitter",
    ("MMLoP", "INPUT.CUTOUT_N", "2"): "where INPUT.TRANSFORMS has cutout",
    ("MMLoP", "DATASET.IMAGE_FOLDER.CLASSNAMES", "a"): "where DATASET.NAME is ImageFolder",
    ("MMLoP", "DATASET.SPLIT_SEED", "3"): "where a split is random",
    (
        *("MMLoP", "--root", "x", "DATASET.NAME", "ImageFolder", "DATASET.SPLIT_SEED", "3"),
        *("DATASET.IMAGE_FOLDER.SPLIT_FILE", "a.json"),
    ): "where a split is random",
    ("MMLoP", "TEST.NO_TEST", "True", "TEST.FINAL_MODEL", "best_val"): "TEST.NO_TEST is False",
    ("MMLoP", "TEST.NO_TEST", "True", "TEST.COMPUTE_CMAT", "True"): "TEST.NO_TEST is False",
    # Dassl's keys that nothing reads.
    ("MMLoP", "DATASET.VAL_PERCENT", "0.2"): "no method or data set here reads it: drop it (it",
    ("MMLoP", "--target-domains", "y", "DATASET.NUM_SHOTS", "2"): "DATASET.TARGET_DOMAINS is ('y'",
    ("MMLoP", "--head", "mlp"): "MODEL.HEAD.NAME is 'mlp', and no method",
    ("MMLoP", "DATALOADER.TRAIN_U.BATCH_SIZE", "8"): "no method or data set here reads it",
    ("MMLoP", "DATALOADER.TRAIN_X.N_INS", "8"): "no method or data set here reads it",
    ("MMLoP", "TRAIN.COUNT_ITER", "train_u"): "no method or data set here reads it",
    ("CLIPLoRA", "OPTIM.STAGED_LR", "True"): "no method or data set here reads it",
    ("MMLoP", "OPTIM.BASE_LR_MULT", "0.5"): "no method or data set here reads it",
    ("MMLoP", "MODEL.BACKBONE.PRETRAINED", "False"): "no method or data set here reads it",
}


@pytest.mark.parametrize("words", OTHERS)
def test_what_nobody_reads_is_refused(words):
    with pytest.raises(ValueError) as error:
        setup(*words)
    assert OTHERS[words] in str(error.value)


@pytest.mark.parametrize("trainer", METHODS)
def test_only_the_method_s_own_node_is_recorded(trainer):
    cfg = setup(trainer)
    assert set(cfg.TRAINER) == {"NAME", own_node(trainer)}
    assert ("LOSS" in cfg) == (trainer == "ProGrad")


def test_what_is_read_is_taken(tmp_path):
    cfg = setup("KgCoOp", "TRAINER.COOP.CTX_INIT", "a photo of a", "TRAINER.COOP.N_CTX", "4")
    assert cfg.TRAINER.COOP.N_CTX == 4
    assert setup("ProGrad", "TRAINER.COOP.N_CTX", "9", "LOSS.T", "2").LOSS.T == 2.0
    assert setup("TCP", "TRAINER.COOP.W", "8.0").TRAINER.COOP.W == 8.0  # as its scripts have it
    adam = setup("MMLoP", "OPTIM.NAME", "adam", "OPTIM.ADAM_BETA1", "0.5")
    assert adam.OPTIM.ADAM_BETA1 == 0.5
    crops = ("INPUT.TRANSFORMS", "('random_crop', 'normalize')", "INPUT.CROP_PADDING", "2")
    assert setup("MMLoP", *crops).INPUT.CROP_PADDING == 2


def test_the_command_line_may_switch_off_what_a_file_sets():
    """The demo's file has random_resized_crop with a scale, and a constant warm-up."""
    cfg = setup("MMLoP", "INPUT.TRANSFORMS", "('normalize',)", "OPTIM.WARMUP_EPOCH", "-1")
    assert cfg.INPUT.RRCROP_SCALE == (0.5, 1.0) and cfg.OPTIM.WARMUP_TYPE == "constant"
    cfg = setup("MMLoP", "--transforms", "normalize", "DATASET.NUM_SHOTS", "2")
    assert cfg.INPUT.TRANSFORMS == ("normalize",) and cfg.DATASET.NUM_SHOTS == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OPTIM: {NAME: adam, SGD_NESTEROV: True}", "is read only where OPTIM.NAME is sgd"),
        ("INPUT: {CUTOUT_LEN: 8}", "is read only where INPUT.TRANSFORMS has cutout"),
        ("TRAINER: {IVLP: {N_CTX_TEXT: 3}}", "is read by IVLP, and this run's method is MMLoP"),
        ("DATASET: {CIFAR_C_LEVEL: 3}", "no method or data set here reads it"),
    ],
)
def test_files_are_held_to_it_as_well(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        setup("MMLoP", "--config-file", str(tmp_path / "a.yaml"))


def test_zero_shot_clip_takes_the_pairs_of_a_table():
    """They go to every run; how the others train changes nothing in it."""
    pairs = ("OPTIM.WARMUP_TYPE", "constant", "OPTIM.MAX_EPOCH", "3", "INPUT.CUTOUT_N", "2")
    assert setup("ZeroshotCLIP", *pairs).OPTIM.MAX_EPOCH == 3


def test_the_rules_are_about_keys_that_there_are():
    from fnmatch import filter as matching

    for pattern in (*NEVER, *READERS):
        assert matching(defaults(), pattern), pattern
    assert set(defaults()) >= set(flatten(setup("MMLoP")))
