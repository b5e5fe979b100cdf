import pytest
from dassl.engine import TRAINER_REGISTRY

from benchmark import protocol as protocols
from benchmark import runs as run_module
from benchmark.protocol import load, select
from benchmark.runs import expand, learns
from benchmark.state import expected
from trainers.config import CONFIGS

ELEVEN = 11
# Name: (trainings, evaluations) of the paper's design, for one method or all rows, three seeds.
DESIGN = {
    "base2new": (ELEVEN * 3, ELEVEN * 3 * 2),  # base and new
    "domain_generalization": (3, 3 * (1 + 4)),  # ImageNet and its four variants
    "cross_dataset": (3, 3 * (1 + 10)),  # ImageNet and the ten others
    "few_shot": (ELEVEN * 3 * 5, ELEVEN * 3 * 5),  # 1, 2, 4, 8, 16 shots
    "ablation_components": (ELEVEN * 3 * 5, ELEVEN * 3 * 5 * 2),  # five rows
    "ablation_rank": (ELEVEN * 3 * 3, ELEVEN * 3 * 3 * 2),  # three ranks
}
# What each row of the paper's tables 4 and 5 is.
ROWS = {
    "ablation_components": [
        {"LOW_RANK": False, "SCL": False, "UDC": False},
        {"LOW_RANK": True, "SHARED_UP": False, "SCL": False, "UDC": False},
        {"LOW_RANK": True, "SHARED_UP": False, "SCL": True, "UDC": False},
        {"LOW_RANK": True, "SHARED_UP": False, "SCL": True, "UDC": True},
        {"LOW_RANK": True, "SHARED_UP": True, "SCL": True, "UDC": True},
    ],
    "ablation_rank": [{"RANK": 1}, {"RANK": 2}, {"RANK": 4}],
}


def config(run, tmp_path, *extra):
    return expected(run.arguments("data", tmp_path, extra))


@pytest.mark.parametrize("name", DESIGN)
def test_counts_are_the_paper_s(name):
    runs = expand(load(name))
    assert (sum(run.trains for run in runs), len(runs)) == DESIGN[name]
    assert len({run.folder for run in runs}) == len(runs)


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
def test_rows_of_the_ablations_are_the_paper_s(name, tmp_path):
    runs = {run.row: run for run in expand(load(name)) if run.trains}
    nodes = [config(run, tmp_path).TRAINER.MMLOP for run in runs.values()]
    assert len(nodes) == len(ROWS[name])
    for node, row in zip(nodes, ROWS[name], strict=True):
        assert {key: node[key] for key in row} == row


def test_the_paper_s_settings_come_along(tmp_path):
    """30 epochs, 50 for few-shot; depth 9, and 3 where ImageNet is trained on."""
    found = {}
    for name in ("base2new", "few_shot", "domain_generalization", "cross_dataset"):
        cfg = config(expand(load(name))[0], tmp_path)
        found[name] = (cfg.OPTIM.MAX_EPOCH, cfg.TRAINER.MMLOP.PROMPT_DEPTH_TEXT)
    assert found == {
        "base2new": (30, 9),
        "few_shot": (50, 9),
        "domain_generalization": (30, 3),
        "cross_dataset": (30, 3),
    }


def test_what_two_tables_need_is_one_run():
    def trainings(name, row=None):
        return {r.folder for r in expand(load(name)) if r.trains and row in (None, r.row)}

    assert trainings("domain_generalization") == trainings("cross_dataset")
    assert trainings("ablation_components", "+ shared up-projection") == trainings("base2new")
    assert trainings("ablation_rank", "rank 1") == trainings("base2new")


def test_a_test_names_its_training(tmp_path):
    training, test = expand(load("cross_dataset"))[:2]
    assert (test.dataset, test.trained_on, test.training) == (
        "caltech101",
        "imagenet",
        training.folder,
    )
    words = test.arguments("data", tmp_path)
    assert words[words.index("--model-dir") + 1] == str(tmp_path / training.folder)
    assert test.of_training() == training


def test_zero_shot_runs_once():
    runs = expand(select(load("few_shot"), trainers=["ZeroshotCLIP"]))
    assert len(runs) == ELEVEN and not any(run.trains for run in runs)


def test_every_registered_method_can_be_asked_for():
    rows = select(load("base2new"), trainers=["all"]).rows
    known = [path.name for path in (CONFIGS / "trainers").iterdir()]
    assert set(rows) == set(known) and set(known) <= set(TRAINER_REGISTRY.registered_names())
    runs = expand(select(load("base2new"), trainers=["all"], datasets=["dtd"], seeds=[1]))
    assert len(runs) == 2 * len(known) and sum(r.trains for r in runs) == sum(map(learns, known))


def test_a_method_without_a_file_for_the_protocol_takes_its_base_to_new_one(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "CONFIGS", tmp_path)
    folder = tmp_path / "trainers" / "New"
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="expected configs/trainers/New/base2new.yaml"):
        run_module.settings("New", "few_shot", 4)
    (folder / "base2new.yaml").write_text("")
    assert run_module.settings("New", "few_shot", 4) == folder / "base2new.yaml"
    (folder / "few_shot.yaml").write_text("")
    assert run_module.settings("New", "few_shot", 4) == folder / "few_shot.yaml"
    (folder / "few_shot_4.yaml").write_text("")  # where the published settings depend on the shots
    assert run_module.settings("New", "few_shot", 4) == folder / "few_shot_4.yaml"
    assert run_module.settings("New", "few_shot", 8) == folder / "few_shot.yaml"
    with pytest.raises(FileNotFoundError, match="expected configs/trainers/New/demo.yaml"):
        run_module.settings("New", "demo", 4)


def test_what_learns_nothing_has_one_seed_whatever_the_others_have():
    runs = expand(select(load("base2new"), trainers=["ZeroshotCLIP"], seeds=[2, 3]))
    assert {run.seed for run in runs} == {1}


def test_a_column_brings_its_training_along():
    runs = expand(select(load("cross_dataset"), datasets=["dtd"], seeds=[2]))
    assert [(run.dataset, run.seed) for run in runs] == [("imagenet", 2), ("dtd", 2)]


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("base2new", {"datasets": ["mnist"]}, "base2new has no data set mnist: choose imagenet"),
        ("few_shot", {"shots": [3]}, "few_shot has no number of shots 3: choose 1, 2, 4, 8, 16"),
        ("base2new", {"trainers": ["Magic"]}, "Unknown method Magic: choose "),
        ("ablation_rank", {"trainers": ["CoOp"]}, "are variants of MMLoP: drop --trainers"),
    ],
)
def test_what_a_protocol_does_not_have_is_refused(name, asked, said):
    with pytest.raises(ValueError, match=said):
        select(load(name), **asked)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("title:", "titel:"), "unknown titel"),
        (("table: base2new", "table: 1"), 'table is "1": choose base2new'),
        (("seeds: [1, 2]\n", ""), "says nothing of 'seeds'"),
        (("[caltech101]", "[caltech]"), "there is no configs/datasets/caltech.yaml"),
    ],
)
def test_a_wrong_protocol_says_what_is_wrong(tiny_protocol, change, said):
    from pathlib import Path

    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ValueError, match=said):
        load(tiny_protocol)


def test_an_unknown_protocol_lists_the_known():
    with pytest.raises(FileNotFoundError, match='No protocol "table1": choose base2new'):
        load("table1")
