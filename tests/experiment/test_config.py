"""The configuration: types follow the key, CLIP's defaults, pairs behind flags, the nearest key."""

import pytest
import yaml
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from PIL import Image
from yacs.config import CfgNode

import trainers
from experiment import cli
from experiment.config import defaults
from trainers.base import PromptTrainer


def setup(*words):
    flags = ["--trainer", "ZeroshotCLIP", "--backbone", "demo"]
    return cli.setup_cfg(cli.parse_args([*flags, *words]))


LOOKS = [
    "[a]",
    "[1]",
    "1e3",
    "None",
    "007",
    "7",
    "a, b",
    "#1",
    "True",
    "{'a': 1}",
    "()",
    "...",
    "{[]: 1}",
    "",
]


@pytest.mark.parametrize("text", LOOKS)
def test_a_text_may_look_like_python(text, tmp_path):
    assert text == setup("MODEL.INIT_WEIGHTS", text).MODEL.INIT_WEIGHTS
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({"MODEL": {"INIT_WEIGHTS": text}}))
    assert text == setup("--config-file", str(path)).MODEL.INIT_WEIGHTS


@pytest.mark.parametrize("template", ["{}", "[{}]", "{'{}'}", "# {}", "1e3 {}"])
def test_a_template_may_look_like_python(template, tmp_path):
    assert template == setup("TRAINER.ZSCLIP.TEMPLATE", template).TRAINER.ZSCLIP.TEMPLATE
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({"TRAINER": {"ZSCLIP": {"TEMPLATE": template}}}))
    assert template == setup("--config-file", str(path)).TRAINER.ZSCLIP.TEMPLATE


def test_quotes_within_quotes_are_taken_off_on_the_command_line_alone(tmp_path):
    """There yacs reads a Python string; YAML has quotes of its own."""
    assert setup("TRAINER.ZSCLIP.TEMPLATE", "'a {}'").TRAINER.ZSCLIP.TEMPLATE == "a {}"
    path = tmp_path / "a.yaml"
    path.write_text("TRAINER: {ZSCLIP: {TEMPLATE: \"'{}'\"}}")
    assert setup("--config-file", str(path)).TRAINER.ZSCLIP.TEMPLATE == "'{}'"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("MODEL: {INIT_WEIGHTS: 007}", "MODEL.INIT_WEIGHTS"),  # YAML's number seven
        ("MODEL: {INIT_WEIGHTS: no}", "MODEL.INIT_WEIGHTS"),  # and its False
        ("MODEL: {INIT_WEIGHTS: [a]}", "MODEL.INIT_WEIGHTS"),
        ("MODEL: {INIT_WEIGHTS: }", "MODEL.INIT_WEIGHTS"),
        ("TRAINER: {ZSCLIP: {TEMPLATE: {}}}", "TRAINER.ZSCLIP.TEMPLATE"),
        ("OPTIM: {LR: yes}", "OPTIM.LR"),
        ("OPTIM: {MAX_EPOCH: yes}", "OPTIM.MAX_EPOCH"),
        ("USE_CUDA: 1", "USE_CUDA"),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path, text, key):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"Type mismatch: {key} takes a value of type"):
        setup("--config-file", str(path))


@pytest.mark.parametrize("pair", [("OPTIM.LR", "True"), ("OPTIM.MAX_EPOCH", "1e3")])
def test_a_word_of_another_type_is_refused(pair):
    with pytest.raises(ValueError, match=f"Type mismatch: {pair[0]} takes"):
        setup(*pair)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("optim.lr", "OPTIM.LR"),
        ("LR", "OPTIM.LR"),
        ("Optim.Lr", "OPTIM.LR"),
        ("OPTIM.LEARNING_RATE", "OPTIM.WARMUP_RECOUNT|OPTIM"),
        ("n_ctx", "TRAINER.MAPLE.N_CTX"),
        ("TRAINER.N_CTX", "TRAINER.MAPLE.N_CTX"),
        ("TRAINER.MMLOP.N_CTXX", "TRAINER.MAPLE.N_CTX"),
        ("dataset.num_shot", "DATASET.NUM_SHOTS"),
        ("SHOTS", "DATASET.NUM_SHOTS"),
        ("BATCH_SIZE", "DATALOADER.TEST.BATCH_SIZE|DATALOADER.TRAIN_X.BATCH_SIZE"),
        ("max_epochs", "OPTIM.MAX_EPOCH"),
        ("OPTIM.EPOCHS", "OPTIM.MAX_EPOCH"),
    ],
)
def test_the_nearest_known_key_is_of_this_method_in_any_case(key, near):
    with pytest.raises(ValueError, match=f'the nearest known is "({near})'):
        cli.setup_cfg(cli.parse_args(["--trainer", "MaPLe", key, "1"]))


@pytest.mark.parametrize("key", ["TRAINER.SHALOW.KIND", "XYZ.FOO", "FOO", "TRAINER.MMLOP.ABC.DE"])
def test_where_nothing_is_near_nothing_is_suggested(key):
    with pytest.raises(ValueError, match=f'^Unknown key "{key}" in the command line.$'):
        cli.setup_cfg(cli.parse_args(["--trainer", "MaPLe", key, "1"]))


@pytest.mark.parametrize(
    ("node", "name", "message"),
    [
        ({"N_CTX": 4}, "MINE", 'Mine has no TRAINER.MINE.PREC: set node.PREC = "auto" in add_c'),
        ({"PREC": "auto"}, "MIEN", 'has the node "MIEN", and add_config in its file adds no'),
        ({"PREC": "auto"}, "", "Mine sets no `node`, the name of its section of TRAINER .see CON"),
    ],
)
def test_a_method_that_is_not_whole_says_what_it_lacks(monkeypatch, node, name, message):
    """As one may forget a part of what CONTRIBUTING.md asks for."""
    method = type("Mine", (PromptTrainer,), {"node": name} if name else {})
    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "Mine", method)
    everything = trainers.add_config

    def add_config(cfg):
        everything(cfg)
        cfg.TRAINER.MINE = CfgNode(node)

    monkeypatch.setattr(trainers, "add_config", add_config)
    with pytest.raises(ValueError, match=message):
        cli.setup_cfg(cli.parse_args(["--trainer", "Mine", "TRAINER.MIEN.CTX_INIT", "a"]))


def test_the_yaml_of_another_method(run, tmp_path):
    """A warning where training takes its settings; its keys are refused, with the file."""
    folder = tmp_path / "MMLoP"
    folder.mkdir()
    (folder / "a.yaml").write_text("OPTIM: {LR: 0.0025}\n")
    (folder / "b.yaml").write_text("TRAINER: {MMLOP: {RANK: 1}}\n")
    for trainer, warned in (("CoOp", 1), ("MMLoP", 0), ("ZeroshotCLIP", 0)):
        run(trainer, f"run-{trainer}", config_file=str(folder / "a.yaml"))
        log = (tmp_path / f"run-{trainer}" / "log.txt").read_text()
        warning = f"The settings of MMLoP ({folder / 'a.yaml'}) are used for CoOp: its own are in"
        assert log.count(warning) == log.count("The settings of") == warned
    words = ["--trainer", "CoOp", "--backbone", "demo", "--config-file", str(folder / "b.yaml")]
    with pytest.raises(ValueError, match=f"^In {folder / 'b.yaml'}: TRAINER.MMLOP.RANK is read by"):
        cli.setup_cfg(cli.parse_args(words))


def test_without_an_input_section_images_are_as_clip_takes_them(tmp_path):
    """The same as with the section of every published file; Dassl's own are a ResNet's."""
    (tmp_path / "none.yaml").write_text("OPTIM: {MAX_EPOCH: 1}\n")
    node = setup("--config-file", str(tmp_path / "none.yaml")).INPUT
    mmlop = cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP", "DATASET.NAME", "Caltech101"]))
    assert node == mmlop.INPUT
    assert defaults()["INPUT.PIXEL_MEAN"] == [0.48145466, 0.4578275, 0.40821073]
    assert get_cfg_default().INPUT.PIXEL_MEAN == [0.485, 0.456, 0.406]


def test_clip_s_defaults_are_clip_s_own_preprocessing():
    from prompting.preprocess import describe_preprocessing

    found, own = defaults(), describe_preprocessing(224)
    assert own["mean"] == pytest.approx(found["INPUT.PIXEL_MEAN"], abs=1e-12)
    assert own["std"] == pytest.approx(found["INPUT.PIXEL_STD"], abs=1e-12)
    assert own["resample"] == Image.Resampling[found["INPUT.INTERPOLATION"].upper()]


def test_images_that_are_not_normalised_are_refused():
    for words in (["--transforms", "random_flip"], ["INPUT.TRANSFORMS", "()"]):
        with pytest.raises(ValueError, match="with normalize among them, which CLIP needs"):
            setup(*words)


@pytest.mark.parametrize("flag", ["source-domains", "target-domains", "transforms"])
def test_a_flag_with_several_values_leaves_the_pairs_alone(flag):
    pairs = ["DATASET.NUM_SHOTS", "2", "SEED", "3"]
    args = cli.parse_args(["--trainer", "MMLoP", f"--{flag}", "random_flip", "normalize", *pairs])
    assert getattr(args, flag.replace("-", "_")) == ["random_flip", "normalize"]
    assert args.opts == pairs
    args = cli.parse_args([f"--{flag}", "normalize", *pairs, "--seed", "1", "OPTIM.LR", "1"])
    assert (args.seed, args.opts) == (1, [*pairs, "OPTIM.LR", "1"])
    with pytest.raises(SystemExit):
        cli.parse_args([f"--{flag}", *pairs])


def test_a_misspelt_key_behind_such_a_flag_is_told():
    with pytest.raises(ValueError, match='Unknown key "DATASET.NUM_SHOT"'):
        setup("--transforms", "normalize", "DATASET.NUM_SHOT", "2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model-dir", "x"], "--model-dir and --load-epoch say what --eval-only evaluates"),
        (["--load-epoch", "3"], "--model-dir and --load-epoch say what --eval-only evaluates"),
        (["--eval-only", "--no-train"], "--eval-only evaluates, and --no-train forbids it"),
        (["--eval-only", "TEST.NO_TEST", "True"], "and TEST.NO_TEST True forbids it"),
    ],
)
def test_flags_are_not_passed_over(words, message):
    with pytest.raises(ValueError, match=message):
        cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP", *words]))
