from pathlib import Path

import pytest

from benchmark.plan import expand
from benchmark.protocol import load, select
from benchmark.report import main
from benchmark.report.collect import collect
from benchmark.report.log_parser import read_log, read_logs
from benchmark.report.results import Results

# What the original train.py prints, as far as it matters: arguments, configuration, results.
LOG = """***************
** Arguments **
***************
backbone:
config_file: configs/trainers/MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml
eval_only: {eval_only}
model_dir: {model_dir}
seed: {seed}
trainer: MaPLe
************
** Config **
************
DATASET:
  ALL_AS_UNLABELED: False
  NAME: {dataset}
  NUM_SHOTS: {shots}
  SUBSAMPLE_CLASSES: {classes}
MODEL:
  BACKBONE:
    NAME: ViT-B/16
  HEAD:
    NAME:
OPTIM:
  NAME: sgd
SEED: {seed}
TRAINER:
  COOP:
    N_CTX: 16
  NAME: MaPLe
Collecting env info ...
{rest}"""
RESULT = """Evaluate on the *{split}* set
=> result
* total: {total}
* correct: {correct}
* accuracy: {accuracy:.1f}%
* error: 0.0%
* macro_f1: 0.0%
"""


TRAINED = "Finish training\nDeploy the last-epoch model\n"


def result_of(correct: int, total: int, split: str = "test") -> str:
    accuracy = 100 * correct / total
    return RESULT.format(total=f"{total:,}", correct=f"{correct:,}", accuracy=accuracy, split=split)


def write_log(folder: Path, correct: int, total: int = 1000, rest: str = "", **values) -> Path:
    defaults = {
        "dataset": "DescribableTextures",
        "shots": 16,
        "classes": "base",
        "seed": 1,
        "model_dir": "",
        "eval_only": False,
    }
    result = result_of(correct, total)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "log.txt"
    values = {**defaults, **values}
    rest += "" if values["eval_only"] else TRAINED
    path.write_text(LOG.format(**values, rest=rest + result))
    return path


def test_accuracy_has_the_precision_of_the_counts(tmp_path):
    log = read_log(write_log(tmp_path, correct=2345, total=6789))
    assert log.accuracy == 100 * 2345 / 6789
    assert (log.trainer, log.dataset, log.trained_on) == ("MaPLe", "dtd", "dtd")
    assert (log.classes, log.shots, log.seed) == ("base", 16, 1)
    assert log.backbone == "ViT-B/16"


def test_the_last_result_counts(tmp_path):
    """A run with best_val prints one for every epoch before it."""
    earlier = result_of(1, 100, "val")
    assert read_log(write_log(tmp_path, 500, rest=earlier)).accuracy == 50.0


@pytest.mark.parametrize("eval_only", [False, True])
@pytest.mark.parametrize("earlier", ["val", "test"])
def test_a_log_that_was_cut_at_any_place_is_no_result(tmp_path, earlier, eval_only):
    """Within a number as well; "test" is what upstream's engine falls back to in validation."""
    before = "" if eval_only else result_of(700, 1000, earlier) + "epoch [2/2] batch [5/6]\n"
    path = write_log(tmp_path, 1234, 2000, rest=before, eval_only=eval_only)
    whole = path.read_text()
    end_of_result = whole.rindex("* error")  # from here on the result is whole
    found = set()
    for end in range(len(whole)):
        path.write_text(whole[:end])
        log = read_log(path)
        found.add(log and log.accuracy)
        assert (log is None) == (end < end_of_result), whole[:end][-40:]
    assert found == {None, 61.7}


def test_a_final_result_on_validation_images_is_no_test(tmp_path):
    path = write_log(tmp_path, 500)
    path.write_text(path.read_text().replace("the *test*", "the *val*"))
    assert read_log(path) is None


def test_an_evaluation_that_was_begun_last_counts(tmp_path):
    """Two evaluations one behind the other, the second cut."""
    path = write_log(tmp_path, 500)
    path.write_text(path.read_text() + "Evaluate on the *test* set\n")
    assert read_log(path) is None


def test_a_log_next_to_another_program_s_results_is_read(tmp_path, result):
    """One next to ours is of the same run, which is read from its results."""
    write_log(tmp_path / "theirs", 500)
    (tmp_path / "theirs" / "results.json").write_text("")
    run = expand(select(load("base2new"), datasets=["dtd"], seeds=[1]))[0]
    result(tmp_path, run, 60.0, folder=tmp_path / "ours")
    write_log(tmp_path / "ours", 500)
    assert [log.path.parent.name for log in read_logs(tmp_path)] == ["theirs"]


@pytest.mark.parametrize(
    ("old", "new"), [("seed: 1\n", "seed: one\n"), ("* total: 1,000", "* total: 0")]
)
def test_a_log_that_was_written_over_is_not_read(tmp_path, old, new):
    path = write_log(tmp_path, 500)
    path.write_text(path.read_text().replace(old, new, 1))
    assert read_log(path) is None


def test_what_was_trained_on_is_read_from_the_model_s_folder(tmp_path):
    model = "output/imagenet/MaPLe/vit_b16_c2_ep5_batch4_2ctx_cross_datasets_16shots/seed2"
    values = {"model_dir": model, "eval_only": True, "classes": "all", "shots": -1, "seed": 2}
    log = read_log(write_log(tmp_path, 400, dataset="Caltech101", **values))
    assert (log.trained_on, log.dataset, log.shots) == ("imagenet", "caltech101", 16)


def test_other_logs_and_unfinished_ones_are_not_read(tmp_path):
    path = write_log(tmp_path / "a", 1)
    path.write_text(path.read_text().split("=> result")[0])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "log.txt").write_text("another program's log")
    write_log(tmp_path / "c", 1, dataset="MNIST")
    assert read_logs(tmp_path) == []


def test_the_report_has_a_row_of_its_own_for_them(tmp_path, capsys):
    """The family's layout: output/base2new/{train_base,test_new}/DATASET/shots_16/..."""
    for seed in (1, 2, 3):
        common = f"dtd/shots_16/MaPLe/vit_b16_c2_ep5_batch4_2ctx/seed{seed}"
        trained = tmp_path / "base2new/train_base" / common
        write_log(trained, 800 + seed, seed=seed)
        tested = tmp_path / "base2new/test_new" / common
        new = {"classes": "new", "model_dir": f"output/base2new/train_base/{common}"}
        new["eval_only"] = True
        write_log(tested, 600, seed=seed, **new)
    main([str(tmp_path), "--protocol", "base2new", "--format", "markdown"])
    text = capsys.readouterr().out
    lines = text.splitlines()
    own = [number for number, line in enumerate(lines) if line.startswith("| MaPLe (logs)")]
    base, new, hm = own[1:]  # after that of the averages, which are over one data set
    cells = [lines[number].split("|")[10].strip() for number in (base, new, hm, hm + 1)]
    assert cells[:2] == ["80.20 ± 0.10 (3)", "60.00 ± 0.00 (3)"]
    assert cells[2].startswith("68.64 ±") and cells[3] == "+0.48"  # to MaPLe's 68.16


def test_a_real_head_of_a_log_is_understood(tmp_path):
    """As our engine prints a configuration, which is as yacs prints it everywhere."""
    from experiment.cli import expected

    cfg = expected(["--trainer", "IVLP", "--seed", "4", "DATASET.NAME", "EuroSAT"])
    text = f"** Arguments **\nmodel_dir: \nseed: 4\n** Config **\n{cfg}\n"
    text += TRAINED + result_of(5, 10)
    (tmp_path / "log.txt").write_text(text)
    log = read_log(tmp_path / "log.txt")
    assert (log.trainer, log.dataset, log.seed, log.classes) == ("IVLP", "eurosat", 4, "all")
    assert log.backbone == cfg.MODEL.BACKBONE.NAME != ""


def test_few_shot_logs_go_to_the_table_of_their_backbone(tmp_path):
    write_log(tmp_path / "a", 700, classes="all", dataset="EuroSAT")
    path = write_log(tmp_path / "b", 600, classes="all")
    path.write_text(path.read_text().replace("ViT-B/16", "ViT-B/32"))
    results = Results(tmp_path)
    for name, accuracy in (("few_shot", None), ("few_shot_vit_b32", 60.0)):
        scores = collect(load(name), results).scores
        found = scores.get(("MaPLe (logs)", "dtd", "all", 16))
        assert (found and found.mean) == accuracy
