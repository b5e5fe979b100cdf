from pathlib import Path

import pytest
from dassl.engine import TRAINER_REGISTRY

from benchmark import plan
from benchmark import protocol as protocols
from benchmark.plan import expand
from benchmark.protocol import load, select
from experiment.cli import expected
from experiment.config import CONFIGS
from trainers import requires_training

# Name: (trainings, evaluations) of the paper's design, for one method or all rows, three seeds.
DESIGN = {
    "base2new": (11 * 3, 11 * 3 * 2),  # base and new
    "domain_generalization": (3, 3 * (1 + 4)),  # ImageNet and its four variants
    "cross_dataset": (3, 3 * (1 + 10)),  # ImageNet and the ten others
    "few_shot": (11 * 3 * 5, 11 * 3 * 5),  # 1, 2, 4, 8, 16 shots
    "components": (11 * 3 * 5, 11 * 3 * 5 * 2),  # five rows
    "sensitivity_rank": (9 * 3 * 3, 9 * 3 * 3 * 2),  # three rows, nine data sets
    "sensitivity_length": (9 * 3 * 3, 9 * 3 * 3 * 2),
    "sensitivity_depth": (9 * 3 * 3, 9 * 3 * 3 * 2),
    "few_shot_vit_b32": (11 * 3 * 5, 11 * 3 * 5),
    "logits_loss": (9 * 3 * 4, 9 * 3 * 4 * 2),  # four rows
}
STUDIES = ("sensitivity_rank", "sensitivity_length", "sensitivity_depth")
# Names: the same of several tables, each run that they share once.
TOGETHER = {
    STUDIES: (7 * 9 * 3, 7 * 9 * 3 * 2),  # nine rows, the default one is shared
    ("domain_generalization", "cross_dataset"): (3, 3 * (1 + 4 + 10)),
    ("base2new", "components"): DESIGN["components"],
    (*STUDIES, "base2new", "logits_loss"): (189 + 33 + 2 * 27, 2 * (189 + 33 + 2 * 27)),
    tuple(DESIGN): (741, 1191),
}
# What each row of the paper's tables 4, 7 and 9 to 11 is.
ROWS = {
    "components": [
        {"LOW_RANK": False, "SCL": False, "UDC": False},
        {"LOW_RANK": True, "SHARED_UP": False, "SCL": False, "UDC": False},
        {"LOW_RANK": True, "SHARED_UP": False, "SCL": True, "UDC": False},
        {"LOW_RANK": True, "SHARED_UP": False, "SCL": True, "UDC": True},
        {"LOW_RANK": True, "SHARED_UP": True, "SCL": True, "UDC": True},
    ],
    "sensitivity_rank": [{"RANK": rank, "N_CTX": 4, "UDC": False} for rank in (1, 2, 4)],
    "sensitivity_length": [
        {"RANK": 1, "N_CTX": 2, "CTX_INIT": "a photo of a", "UDC": False},
        {"RANK": 1, "N_CTX": 4, "CTX_INIT": "a photo of a", "UDC": False},
        {"RANK": 1, "N_CTX": 8, "CTX_INIT": "", "UDC": False},
    ],
    "sensitivity_depth": [
        {"PROMPT_DEPTH_TEXT": depth, "PROMPT_DEPTH_VISION": depth, "UDC": False}
        for depth in (7, 9, 11)
    ],
    "logits_loss": [
        {"LOGITS_LOSS": loss, "UDC": udc}
        for loss in ("symmetric_kl", "kl")
        for udc in (False, True)
    ],
}


def config(run, tmp_path, *extra):
    return expected(run.arguments("data", tmp_path, extra))


@pytest.mark.parametrize("name", DESIGN)
def test_counts_are_the_paper_s(name):
    runs = expand(load(name))
    assert (sum(run.trains for run in runs), len(runs)) == DESIGN[name]
    assert len({run.folder for run in runs}) == len(runs)


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_what_tables_share_counts_once(names):
    runs = {run.folder: run for name in names for run in expand(load(name))}
    assert (sum(run.trains for run in runs.values()), len(runs)) == TOGETHER[names]


def test_table_3_has_three_of_the_numbers_of_shots():
    for name in ("few_shot", "few_shot_vit_b32"):
        assert len(expand(select(load(name), shots=[4, 8, 16]))) == 11 * 3 * 3


def test_the_protocols_are_those_of_the_paper_and_two_of_ours():
    assert protocols.names() == [*DESIGN, "sweep"]
    assert {load(name).paper for name in ("cross_dataset", "sweep")} == {""}
    assert all(load(name).paper for name in set(DESIGN) - {"cross_dataset"})


@pytest.mark.parametrize("name", protocols.names())
@pytest.mark.parametrize("demo", [False, True])
def test_every_run_s_command_is_one_that_train_takes(name, demo, tmp_path):
    """One seed suffices; the demo's runs are on the demo world, the others are not."""
    for run in expand(select(load(name, demo), seeds=[1])):
        cfg = expected(run.arguments("demo" if demo else "data", tmp_path))
        assert (cfg.TEST.SPLIT == "val") is (name == "sweep")
        if name != "sweep":
            assert (cfg.MODEL.BACKBONE.NAME == "demo") is demo
            assert cfg.DATASET.NAME.startswith("ShapeWorld") is demo


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_the_paper_s(name, tmp_path):
    runs = {run.row: run for run in expand(load(name)) if run.trains}
    nodes = [config(run, tmp_path).TRAINER.MMLOP for run in runs.values()]
    assert len(nodes) == len(ROWS[name])
    for node, row in zip(nodes, ROWS[name], strict=True):
        assert {key: node[key] for key in row} == row


def test_the_paper_s_settings_come_along(tmp_path):
    """30 epochs for base-to-new, else 50; depth 9, and 3 when ImageNet is trained on."""
    found = {}
    for name in ("base2new", "few_shot", "few_shot_vit_b32", "domain_generalization"):
        cfg = config(expand(load(name))[0], tmp_path)
        depth = cfg.TRAINER.MMLOP.PROMPT_DEPTH_TEXT
        found[name] = (cfg.OPTIM.MAX_EPOCH, depth, cfg.MODEL.BACKBONE.NAME)
    assert found == {
        "base2new": (30, 9, "ViT-B/16"),
        "few_shot": (50, 9, "ViT-B/16"),
        "few_shot_vit_b32": (50, 9, "ViT-B/32"),
        "domain_generalization": (50, 3, "ViT-B/16"),
    }


def test_what_two_tables_need_is_one_run():
    def trainings(name, row=None):
        return {r.folder for r in expand(load(name)) if r.trains and row in (None, r.row)}

    assert trainings("domain_generalization") == trainings("cross_dataset")
    assert trainings("components", "+ shared up-projection") == trainings("base2new")
    assert trainings("logits_loss", "symmetric KL + UDC") < trainings("base2new")
    without = trainings("logits_loss", "symmetric KL, no UDC")
    for name, row in zip(STUDIES, ("rank 1", "length 4", "depth 9"), strict=True):
        assert trainings(name, row) == without


def test_the_order_of_options_changes_no_folder(tiny_protocol):
    def folder(first, second):
        path = Path(tiny_protocol)
        path.write_text(f"{text}options: {{{first}}}\nrows: {{row: {{{second}}}}}\n")
        return expand(load(tiny_protocol))[0].folder

    text = Path(tiny_protocol).read_text()
    rank, udc = "TRAINER.MMLOP.RANK: 2", "TRAINER.MMLOP.UDC: False"
    assert folder(rank, udc) == folder(udc, rank) == folder(f"{udc}, {rank}", "")
    assert folder(rank, udc).parts[3] == "MMLoP-RANK_2-UDC_False"
    assert folder("TRAINER.MMLOP.RANK: 4", rank).parts[3] == "MMLoP-RANK_2"  # the row's wins
    assert folder('TRAINER.MMLOP.CTX_INIT: ""', "").parts[3] == "MMLoP-CTX_INIT_none"


def test_the_demo_world_has_one_backbone():
    other, demo = (load("few_shot_vit_b32", demo) for demo in (False, True))
    assert {run.folder.parts[3] for run in expand(other)} == {"MMLoP-ViT-B-32"}
    own = {run.folder for run in expand(load("few_shot", True))}
    assert {run.folder for run in expand(demo)} == own
    assert other.title != demo.title and "one backbone" in demo.title


def test_a_test_names_its_training(tmp_path):
    training, test = expand(load("cross_dataset"))[:2]
    assert (test.dataset, test.training.dataset) == ("caltech101", "imagenet")
    words = test.arguments("data", tmp_path)
    assert words[words.index("--model-dir") + 1] == str(tmp_path / training.folder)
    assert test.training == training


def test_zero_shot_runs_once():
    runs = expand(select(load("few_shot"), trainers=["ZeroshotCLIP"]))
    assert len(runs) == 11 and not any(run.trains for run in runs)


def test_every_registered_method_can_be_asked_for():
    """Of a table for base and new classes, a method for few shots alone is no row."""
    folders = list((CONFIGS / "trainers").iterdir())
    known = [path.name for path in folders if (path / "base2new.yaml").exists()]
    few_shot = {path.name for path in folders} - set(known)
    assert few_shot and all((CONFIGS / "trainers" / n / "few_shot.yaml").exists() for n in few_shot)
    for demo in (False, True):
        assert set(select(load("base2new", demo), trainers=["all"]).rows) == set(known)
        assert set(select(load("few_shot", demo), trainers=["all"]).rows) == {*known, *few_shot}
    assert {*known, *few_shot} <= set(TRAINER_REGISTRY.registered_names())
    runs = expand(select(load("base2new"), trainers=["all"], datasets=["dtd"], seeds=[1]))
    assert len(runs) == 2 * len(known)
    assert sum(r.trains for r in runs) == sum(map(requires_training, known))


def test_a_method_without_a_file_for_the_protocol_takes_its_base_to_new_one(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "CONFIGS", tmp_path)
    folder = tmp_path / "trainers" / "New"
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="expected configs/trainers/New/base2new.yaml"):
        plan.settings("New", "few_shot", 4)
    (folder / "base2new.yaml").write_text("")
    assert plan.settings("New", "few_shot", 4) == folder / "base2new.yaml"
    (folder / "few_shot.yaml").write_text("")
    assert plan.settings("New", "few_shot", 4) == folder / "few_shot.yaml"
    (folder / "few_shot_4.yaml").write_text("")  # where the published settings depend on the shots
    assert plan.settings("New", "few_shot", 4) == folder / "few_shot_4.yaml"
    assert plan.settings("New", "few_shot", 8) == folder / "few_shot.yaml"
    with pytest.raises(FileNotFoundError, match="expected configs/trainers/New/demo.yaml"):
        plan.settings("New", "demo", 4)


def test_a_method_without_training_has_one_seed_whatever_the_others_have():
    runs = expand(select(load("base2new"), trainers=["ZeroshotCLIP"], seeds=[2, 3]))
    assert {run.seed for run in runs} == {1}


def test_a_column_brings_its_training_along():
    runs = expand(select(load("cross_dataset"), datasets=["dtd"], seeds=[2]))
    assert [(run.dataset, run.seed) for run in runs] == [("imagenet", 2), ("dtd", 2)]


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("base2new", {"datasets": ["mnist"]}, "base2new has no data set mnist: choose imagenet"),
        ("few_shot", {"shots": [3]}, "few_shot has no number of shots 3: choose 1, 2, 4, 8, 16"),
        ("base2new", {"trainers": ["Magic"]}, "Unknown method Magic: choose "),
        ("sensitivity_rank", {"trainers": ["CoOp"]}, "are variants of MMLoP: drop --trainers"),
    ],
)
def test_what_a_protocol_does_not_have_is_refused(name, asked, message):
    with pytest.raises(ValueError, match=message):
        select(load(name), **asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title:", "titel:"), "unknown titel"),
        (("table: base2new", "table: 1"), 'table is "1": choose base2new'),
        (("seeds: [1, 2]\n", ""), "lacks the key 'seeds'"),
        (("[caltech101]", "[caltech]"), "there is no configs/datasets/caltech.yaml"),
        (("config:", "options: {OPTIM.LR: }\nconfig:"), "OPTIM.LR has no value"),
        (("shots: [2]", "shots: 16"), "shots is 16: expected a list, such as .16."),
        (("datasets: [caltech101]", "datasets: dtd"), "datasets is dtd: expected a list"),
        (("shots: [2]", "shots: [2, 4]"), "only few_shot tables have several numbers"),
    ],
)
def test_a_wrong_protocol_says_what_is_wrong(tiny_protocol, change, message):
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ValueError, match=message):
        load(tiny_protocol)


def test_an_unknown_protocol_lists_the_known():
    with pytest.raises(FileNotFoundError, match='No protocol "table1": choose base2new'):
        load("table1")
