"""Which results belong to a protocol: the runner's, those made by hand, and none of others."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from benchmark import plan, protocol
from benchmark.plan import expand
from benchmark.protocol import load, select
from benchmark.report.cli import gather
from benchmark.report.collect import collect, reported
from benchmark.report.results import Results
from experiment.config import CONFIGS


def dtd(seeds=(1,), **asked):
    return expand(select(load("base2new"), datasets=["dtd"], seeds=seeds, **asked))


def scores(output, **asked) -> dict:
    """Return what was found of table 1 on DTD: accuracy by row and classes."""
    found = collect(load("base2new"), Results(output), **asked)
    return {
        (row, classes): score.mean
        for (row, dataset, classes, _), score in found.scores.items()
        if dataset == "dtd" and score.mean is not None
    }


def test_runs_by_hand_count_where_they_are_the_protocol_s(tmp_path, result):
    train, test = dtd()
    result(tmp_path, train, 61.0, folder=tmp_path / "mine" / "base")
    result(tmp_path, test, 62.0, folder=tmp_path / "mine" / "new")
    path = tmp_path / "mine" / "new" / "results.json"
    data = json.loads(path.read_text())
    data["evaluated_checkpoint"]["path"] = str(
        tmp_path / "mine/base/prompt_learner/model.pth.tar-30"
    )
    path.write_text(json.dumps(data))
    assert scores(tmp_path) == {("MMLoP", "base"): 61.0, ("MMLoP", "new"): 62.0}

    (tmp_path / "mine/base/results.json").unlink()  # now what it was trained on is not known
    assert scores(tmp_path) == {}


def test_seeds_stepped_together_share_the_seconds_of_their_training(tmp_path, result):
    for run in dtd(seeds=(1, 2, 3))[::2]:
        result(tmp_path, run, 60.0, together=[1, 2, 3])
    assert [each.seconds for each in Results(tmp_path).all] == [60 / 3 + 1] * 3


def test_prompts_of_an_early_epoch_do_not_count(tmp_path, result):
    """Evaluations by hand, with --load-epoch 3 and without."""
    base, new = dtd()
    result(tmp_path, base, 50.0)
    for name, epoch, accuracy in (("a", 3, 11.0), ("b", 30, 66.0)):
        for part, run in (("base", base), ("new", new)):
            path = tmp_path / name / part
            result(tmp_path, run, accuracy, folder=path)
            data = json.loads((path / "results.json").read_text())
            data["evaluated_checkpoint"] = {
                "path": str(tmp_path / base.folder / "prompt_learner" / "model.pth.tar"),
                "epoch": epoch,
            }
            (path / "results.json").write_text(json.dumps(data))
    assert scores(tmp_path) == {("MMLoP", "base"): 50.0, ("MMLoP", "new"): 66.0}


def test_zero_shot_is_found_whatever_the_seeds(tmp_path, result):
    for run in dtd(seeds=[2, 3], trainers=["ZeroshotCLIP", "MMLoP"]):
        result(tmp_path, run, 53.0 if run.row == "ZeroshotCLIP" else 80.0)
    found = collect(load("base2new"), Results(tmp_path), seeds=[2, 3])
    assert found.scores["ZeroshotCLIP", "dtd", "base", 0].by_seed == {1: 53.0}
    assert found.scores["MMLoP", "dtd", "base", 16].by_seed == {2: 80.0, 3: 80.0}
    assert found.asked.seeds == (1, 2, 3) and found.protocol.seeds == (2, 3)


def test_a_deviating_setting_is_kept_by_row(tmp_path, result):
    result(tmp_path, dtd()[0], 50.0, "OPTIM.LR", "0.5", "TRAINER.MMLOP.PREC", "fp16")
    found = collect(load("base2new"), Results(tmp_path))
    expected = {"OPTIM.LR": {("0.5", "0.0025")}, "TRAINER.MMLOP.PREC": {("fp16", "auto")}}
    assert found.deviating == {"MMLoP": expected}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is no JSON"),
        ('{"accuracy": ', "it is no JSON"),
        ("{}", "it has no accuracy or no"),
        ("null", "it has no accuracy or no"),
        ('"results"', "it has no accuracy or no"),
        ("[1, 2]", "it has no accuracy or no"),
        ("[" * 100_000, "it is no JSON"),
        ('{"accuracy": 1.0, "config": {}}', "it has no accuracy or no"),
        ('{"config": {"TRAINER": {"NAME": ["a"]}}}', "it has no accuracy or no"),
        ('{"config": {"TRAINER": {"NAME": "A"}}}', "it has no accuracy or no"),
        ('{"accuracy": 1, "config": {"TRAINER": {"NAME": "A"}}}', "it lacks command, commit"),
        (b"\xff\xfe", "it is no JSON"),
    ],
)
def test_a_broken_or_foreign_file_is_passed_over_with_one_warning(tmp_path, caplog, text, reason):
    path = tmp_path / "mine" / "results.json"
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with caplog.at_level(logging.WARNING):
        assert Results(tmp_path).all == []
    (record,) = caplog.records
    assert str(path) in record.getMessage() and reason in record.getMessage()


@pytest.mark.parametrize(
    ("key", "value"),
    [("accuracy", "80"), ("seed", "one"), ("seconds", {}), ("device", None)]
    + [("config", {"TRAINER": {"NAME": "MMLoP"}}), ("command", "train.py"), ("shots", 1.5)]
    + [("evaluated_checkpoint", {"path": "a"}), ("commit", 3)],
)
def test_a_value_that_no_run_writes_is_passed_over(tmp_path, result, caplog, key, value):
    result(tmp_path, dtd()[0], 61.0)
    result(tmp_path, dtd()[0], 61.0, folder=tmp_path / "mine")
    path = tmp_path / "mine" / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with caplog.at_level(logging.WARNING):
        assert len(Results(tmp_path).all) == 1
    (record,) = caplog.records
    assert f"no run writes such a value of {key}" in record.getMessage()


def test_a_folder_set_aside_is_not_read(tmp_path, result):
    result(tmp_path, dtd()[0], 61.0, folder=tmp_path / "seed1" / "train-20260101-120000")
    assert Results(tmp_path).all == []


def names(found) -> list[str]:
    return [each.asked.name for each in found]


def all_of(output, *of: str) -> list:
    results = Results(output)
    return [collect(load(name), results) for name in of]


def test_a_shared_run_belongs_to_the_first_table_that_is_no_study(tmp_path, result):
    """Table 1's own run is a row of two studies, a study's default row one of others."""
    of = ("base2new", "components", "sensitivity_rank", "sensitivity_length", "logits_loss")
    result(tmp_path, dtd()[0], 60.0)
    assert names(reported(all_of(tmp_path, *of))) == ["base2new"]
    for run in expand(select(load("sensitivity_length"), datasets=["dtd"], seeds=[1])):
        result(tmp_path, run, 60.0)
    assert names(reported(all_of(tmp_path, *of))) == ["base2new", "sensitivity_length"]


def test_a_training_alone_is_no_transfer(tmp_path, result):
    of = ("domain_generalization", "cross_dataset")
    train, first, *_ = expand(select(load("cross_dataset"), seeds=[1]))
    result(tmp_path, train, 60.0)
    assert reported(all_of(tmp_path, *of)) == []
    result(tmp_path, first, 60.0)
    assert names(reported(all_of(tmp_path, *of))) == ["cross_dataset"]


@pytest.mark.parametrize("rows", ["", "rows: {plain: {}, slow: {OPTIM.LR: 0.001}}\n"])
def test_an_own_method_needs_no_settings_for_the_demo_world(
    tmp_path, tiny_protocol, result, monkeypatch, rows
):
    """Its results on real data are reported."""
    shutil.copytree(CONFIGS, tmp_path / "configs")
    (tmp_path / "configs" / "trainers" / "IVLP" / "demo.yaml").unlink()
    for module in (plan, protocol):
        monkeypatch.setattr(module, "CONFIGS", tmp_path / "configs")
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("MMLoP", "IVLP") + rows)
    runs = expand(select(load(tiny_protocol), seeds=[1]))
    for run in runs:
        result(tmp_path, run, 60.0)
    (found,) = gather(Results(tmp_path), [tiny_protocol])
    assert not found.protocol.demo
    assert found.rows == (["plain", "slow"] if rows else ["IVLP"])


def test_a_protocol_that_is_asked_for_is_reported_without_runs(tmp_path, result):
    assert names(gather(Results(tmp_path), ["few_shot_vit_b32"])) == ["few_shot_vit_b32"]
    for run in expand(select(load("few_shot_vit_b32", demo=True), seeds=[1], shots=[1])):
        result(tmp_path, run, 60.0)
    (found,) = gather(Results(tmp_path), ["few_shot_vit_b32"])
    assert found.protocol.demo  # there it is the runs of few_shot, on its one backbone
