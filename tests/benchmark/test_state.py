import json

import pytest
import yaml

from benchmark.plan import expand
from benchmark.protocol import load, select
from experiment.cli import expected
from experiment.run_state import clear, examine, fingerprint, set_aside


@pytest.fixture
def arguments(tmp_path):
    return expand(load("base2new"))[0].arguments("data", tmp_path)


def test_paths_and_workers_do_not_change_a_fingerprint(arguments):
    before = fingerprint(expected(arguments))
    more = ["DATALOADER.NUM_WORKERS", "2", "DATASET.ROOT", "x", "TRAIN.CHECKPOINT_FREQ", "5"]
    assert fingerprint(expected([*arguments, *more])) == before
    assert fingerprint(yaml.safe_load(expected(arguments).dump())) == before  # as recorded


@pytest.mark.parametrize(
    "pair",
    [("OPTIM.LR", "0.1"), ("MODEL.BACKBONE.NAME", "ViT-B/32"), ("TRAINER.MMLOP.RANK", "2")],
)
def test_what_figures_depend_on_does(arguments, pair):
    assert fingerprint(expected([*arguments, *pair])) != fingerprint(expected(arguments))


def test_another_method_s_keys_do_not_count(arguments):
    """Records of older versions hold the nodes of all methods."""
    config = yaml.safe_load(expected(arguments).dump())
    before = fingerprint(config)
    config["TRAINER"]["IVLP"] = {"N_CTX_TEXT": 3}
    assert fingerprint(config) == before


def test_a_record_of_an_older_version_lacks_keys_that_have_their_defaults(arguments):
    config = yaml.safe_load(expected(arguments).dump())
    before = fingerprint(config)
    del config["TRAINER"]["MMLOP"]["UP_PER_LAYER"]
    assert fingerprint(config) == before


def test_zero_shot_does_not_depend_on_how_others_train(tmp_path):
    run = expand(select(load("base2new"), trainers=["ZeroshotCLIP"]))[0]
    words = run.arguments("data", tmp_path)
    more = ["OPTIM.MAX_EPOCH", "3", "DATASET.NUM_SHOTS", "4"]
    assert fingerprint(expected([*words, *more])) == fingerprint(expected(words))


def test_what_a_folder_holds(tmp_path, arguments):
    folder, config = tmp_path / "run", expected(arguments)
    assert examine(folder, config).kind == "new"
    (folder / "prompt_learner").mkdir(parents=True)
    (folder / "config.yaml").write_text(config.dump())
    assert examine(folder, config).kind == "begun"
    (folder / "prompt_learner" / "checkpoint").write_text("model.pth.tar-1\n")
    (folder / "prompt_learner" / "model.pth.tar-1").touch()
    assert examine(folder, config).kind == "resumable"
    other = expected([*arguments, "OPTIM.MAX_EPOCH", "7"])
    assert examine(folder, other).differing == "OPTIM.MAX_EPOCH 30 there, 7 here"
    record = {"accuracy": 1.0, "config": yaml.safe_load(config.dump())}
    (folder / "results.json").write_text(json.dumps(record))
    assert examine(folder, config).kind == "finished"
    assert examine(folder, other).kind == "changed"


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '"a"', '{"config": {"OPTIM": 3}}', "\xff"])
def test_results_of_somebody_else_are_another_run_s(tmp_path, arguments, text):
    """Neither finished, nor a traceback: the runner refuses the folder, or sets it aside."""
    (tmp_path / "results.json").write_bytes(text.encode("latin-1"))
    state = examine(tmp_path, expected(arguments))
    assert (
        state.kind == "changed" and "what lies there is no run that can be read" in state.differing
    )


def test_a_checkpoint_without_its_configuration_is_another_run_s(tmp_path, arguments):
    (tmp_path / "prompt_learner").mkdir()
    (tmp_path / "prompt_learner" / "checkpoint").write_text("model.pth.tar-1\n")
    (tmp_path / "prompt_learner" / "model.pth.tar-1").touch()
    assert examine(tmp_path, expected(arguments)).kind == "changed"
    (tmp_path / "config.yaml").write_text("- a\n")
    assert examine(tmp_path, expected(arguments)).kind == "changed"


def test_clearing_keeps_the_log(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    for name in ("config.yaml", "log.txt", "tensorboard/events"):
        (tmp_path / name).write_text("")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_setting_aside_loses_nothing(tmp_path):
    folder = tmp_path / "demo"
    assert set_aside(folder) is None
    for text in ("first", "second"):
        folder.mkdir()
        (folder / "note").write_text(text)
        assert (set_aside(folder) / "note").read_text() == text
    kept = sorted(path.read_text() for path in tmp_path.glob("demo-*/note"))
    assert kept == ["first", "second"] and not folder.exists()
