from pathlib import Path

from benchmark.logs import read_log, read_logs
from benchmark.report import main

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
RESULT = """=> result
* total: {total}
* correct: {correct}
* accuracy: {accuracy:.1f}%
* error: 0.0%
* macro_f1: 0.0%
"""


def write_log(folder: Path, correct: int, total: int = 1000, rest: str = "", **values) -> Path:
    defaults = {
        "dataset": "DescribableTextures",
        "shots": 16,
        "classes": "base",
        "seed": 1,
        "model_dir": "",
        "eval_only": False,
    }
    result = RESULT.format(
        total=f"{total:,}", correct=f"{correct:,}", accuracy=100 * correct / total
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "log.txt"
    path.write_text(LOG.format(**{**defaults, **values}, rest=rest + result))
    return path


def test_accuracy_has_the_precision_of_the_counts(tmp_path):
    log = read_log(write_log(tmp_path, correct=2345, total=6789))
    assert log.accuracy == 100 * 2345 / 6789
    assert (log.trainer, log.dataset, log.trained_on) == ("MaPLe", "dtd", "dtd")
    assert (log.classes, log.shots, log.seed) == ("base", 16, 1)


def test_the_last_result_counts(tmp_path):
    """A run with best_val prints one for every epoch before it."""
    earlier = RESULT.format(total=100, correct=1, accuracy=1.0)
    assert read_log(write_log(tmp_path, 500, rest=earlier)).accuracy == 50.0


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
        write_log(tested, 600, seed=seed, **new)
    main([str(tmp_path)])
    text = capsys.readouterr().out
    line = next(ln for ln in text.splitlines() if ln.startswith("dtd") and "MaPLe (logs)" in ln)
    assert "80.20 ± 0.10 (3)" in line and "60.00 ± 0.00 (3)" in line
    assert line.split()[-2:] == ["68.16", "+0.48"]  # MaPLe's published HM on DTD


def test_a_real_head_of_a_log_is_understood(tmp_path):
    """As our engine prints a configuration, which is as yacs prints it everywhere."""
    from benchmark.state import expected

    cfg = expected(["--trainer", "IVLP", "--seed", "4", "DATASET.NAME", "EuroSAT"])
    text = f"** Arguments **\nmodel_dir: \nseed: 4\n** Config **\n{cfg}\n"
    text += RESULT.format(total=10, correct=5, accuracy=50.0)
    (tmp_path / "log.txt").write_text(text)
    log = read_log(tmp_path / "log.txt")
    assert (log.trainer, log.dataset, log.seed, log.classes) == ("IVLP", "eurosat", 4, "all")
