"""Wrong input ends in one sentence and status 2, before any training."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiment import cli
from trainers.base import PromptTrainer

ROOT = Path(cli.__file__).parents[1]

CASES = {
    "unknown key": (
        ("TRAINER.MMLOP.RNAK", "1"),
        'Unknown key "TRAINER.MMLOP.RNAK" in the command line; the nearest known is '
        '"TRAINER.MMLOP.RANK".',
    ),
    "key without value": (("TRAINER.MMLOP.RANK",), '"TRAINER.MMLOP.RANK" has no value'),
    "value of another type": (("TRAINER.MMLOP.RANK", "one"), "In the command line: Type mismatch"),
    "rank 0": (("TRAINER.MMLOP.RANK", "0"), "MMLOP.N_CTX, which is 4, got 0"),
    "rank above T": (("TRAINER.MMLOP.RANK", "5"), "MMLOP.RANK must be between 1 and TRAINER.MMLOP"),
    "depth": (
        ("TRAINER.MMLOP.PROMPT_DEPTH_TEXT", "99"),
        "TRAINER.MMLOP.PROMPT_DEPTH_TEXT is 99: the text tower of this backbone takes 0 to 9",
    ),
    "init": (("TRAINER.MMLOP.INIT", "svd"), "MMLOP.INIT must be normal, the paper's"),
    "init std": (
        ("TRAINER.MMLOP.INIT_STD", "0"),
        "TRAINER.MMLOP.INIT_STD must be above 0, got 0.0",
    ),
    "logits loss": (
        ("TRAINER.MMLOP.LOGITS_LOSS", "l2"),
        'LOGITS_LOSS must be one of symmetric_kl, kl, got "l2"',
    ),
    "precision": (("TRAINER.MMLOP.PREC", "fp8"), "PREC must be one of auto, fp32, tf32, amp, bf16"),
    "short context": (
        ("TRAINER.MMLOP.CTX_INIT", "a photo"),
        'TRAINER.MMLOP.CTX_INIT "a photo" has 2 tokens, fewer than the 4 prompt tokens',
    ),
    "long context": (
        ("TRAINER.MMLOP.N_CTX", "74", "TRAINER.MMLOP.CTX_INIT", ""),
        '" has 76 tokens, and CLIP takes 75: shorten the context or the class name',
    ),
    "split": (("TEST.SPLIT", "valid"), 'TEST.SPLIT must be one of test, val, got "valid".'),
    "model": (("TEST.FINAL_MODEL", "best"), "FINAL_MODEL must be one of last_step, best_val, got"),
    "nothing to train": (
        ("TRAINER.MMLOP.PROMPT_DEPTH_TEXT", "0", "TRAINER.MMLOP.PROMPT_DEPTH_VISION", "0"),
        "TRAINER.MMLOP.PROMPT_DEPTH_TEXT is 0 in both towers",
    ),
    "classes": (("DATASET.SUBSAMPLE_CLASSES", "novel"), "SUBSAMPLE_CLASSES must be one of"),
    "shots": (("DATASET.NUM_SHOTS", "0"), "NUM_SHOTS must be at least 1, or -1 for all, got 0"),
}


@pytest.fixture
def refused(run, capsys, monkeypatch):
    """Run, expecting a refusal; returns what was printed."""

    def call(*arguments, trainer="MMLoP", name="refused", **flags):
        with monkeypatch.context() as patch:
            patch.setattr(PromptTrainer, "forward_backward", lambda *_: pytest.fail("it trained"))
            with pytest.raises(SystemExit) as error:
                run(trainer, name, *arguments, **flags)
        assert error.value.code == 2
        printed = capsys.readouterr().err.strip().splitlines()
        assert len(printed) == 1 and printed[0].startswith("train.py: ")
        return printed[0]

    return call


@pytest.mark.parametrize("case", CASES)
def test_wrong_options(refused, case):
    pairs, message = CASES[case]
    assert message in refused(*pairs)


def test_unknown_names(refused):
    assert "did you mean MMLoP? Else choose CLIPAdapter, " in refused(trainer="MMLop")
    assert 'Unknown method "xyz": choose CLIPAdapter, ' in refused(trainer="xyz")
    assert "did you mean Caltech101? " in refused("DATASET.NAME", "Caltech-101")
    assert "is neither a file nor a known name" in refused(backbone="ViT-B16")


def test_missing_folders_and_files(refused, tmp_path):
    """Those of the data are found before the backbone is."""
    late = {"backbone": "nowhere.pt"}
    message = refused(root=str(tmp_path / "nowhere"), **late)
    assert "which is not a folder; set it with --root" in message
    (tmp_path / "empty").mkdir()
    assert "expects the folder" in refused(root=str(tmp_path / "empty"), **late)
    own = ("DATASET.NAME", "ImageFolder")
    message = refused(*own, root=str(tmp_path / "nowhere"), **late)
    assert "must be the folder that holds the class folders, got" in message
    assert "absent.yaml does not exist" in refused(config_file="absent.yaml")
    assert "is not a .yaml file" in refused(config_file=str(ROOT / "train.py"))
    (tmp_path / "broken.yaml").write_text("A: [")
    assert "is not valid YAML" in refused(config_file=str(tmp_path / "broken.yaml"))
    (tmp_path / "unknown.yaml").write_text("OPTIM:\n  LRR: 1.0\n")
    message = refused(config_file=str(tmp_path / "unknown.yaml"))
    assert 'Unknown key "OPTIM.LRR"' in message and '"OPTIM.LR"' in message


def test_openai_s_backbones_have_their_own_activation(refused):
    printed = refused("MODEL.BACKBONE.ACTIVATION", "gelu", backbone="demo")
    assert 'MODEL.BACKBONE.ACTIVATION is gelu: "demo" has quick_gelu' in printed


def test_resnet_backbone(refused, tmp_path):
    from clip.model import CLIP

    torch.save(
        CLIP(64, 32, (1, 1, 1, 1), 64, None, 77, 49408, 64, 1, 1).state_dict(), tmp_path / "RN.pth"
    )
    assert "is a ResNet; prompts need a plain transformer" in refused(
        backbone=str(tmp_path / "RN.pth")
    )


def test_a_folder_that_holds_a_run(run, refused):
    run("ZeroshotCLIP", "refused")
    assert "(config.yaml, results.json): pass another --output-dir" in refused()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mine": 1}'])
def test_results_of_another_program_are_never_lost(refused, tmp_path, text):
    folder = tmp_path / "refused"
    folder.mkdir()
    (folder / "results.json").write_text(text)
    assert "holds other files and no run (results.json): pass a new or empty" in refused()
    assert "holds no run that --overwrite could replace" in refused("--overwrite")
    (folder / "config.yaml").write_text("")
    assert "holds no run that --overwrite could replace" in refused("--overwrite")
    assert "results.json is not of a run, and the run would replace" in refused(resume=str(folder))
    assert (folder / "results.json").read_text() == text


def test_resuming_another_run(run, refused, tmp_path):
    options = ("TRAIN.CHECKPOINT_FREQ", "1")
    run("MMLoP", "refused", *options)
    here = {"resume": str(tmp_path / "refused")}
    assert "is finished: its figures are in results.json" in refused(*options, **here)
    (tmp_path / "refused" / "results.json").unlink()
    message = refused(*options, "OPTIM.LR", "0.1", **here)
    assert "has OPTIM.LR 0.0025, and this one 0.1: pass the same, or begin a new run" in message
    assert "A run resumes in its own folder" in refused(*options, name="b", **here)
    nowhere = str(tmp_path / "nowhere")
    assert "There is no checkpoint in" in refused(output_dir=nowhere, resume=nowhere)
    assert not (tmp_path / "nowhere").exists()


def test_a_schedule_of_the_older_kind(run, refused, tmp_path):
    options = ("TRAIN.CHECKPOINT_FREQ", "1")
    run("MMLoP", "refused", *options)
    (tmp_path / "refused" / "results.json").unlink()
    path = tmp_path / "refused" / "prompt_learner" / "model.pth.tar-2"
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "scheduler": {"last_epoch": 2, "base_lrs": [0.0025]}}, path)
    message = refused(*options, resume=str(tmp_path / "refused"))
    assert "tar-2 holds an older kind of schedule: resume it with the code that began" in message


def test_an_evaluation_can_be_put_right(run, refused, tmp_path, monkeypatch):
    """A refused run leaves nothing that stands in the way of the next."""
    run("MMLoP", "trained")
    damaged = tmp_path / "damaged" / "prompt_learner" / "model.pth.tar-2"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"PK")
    with monkeypatch.context() as patch:
        patch.setattr(cli, "build_trainer", lambda _: pytest.fail("models were loaded"))
        patch.setattr(cli, "fit_input_size", lambda _: pytest.fail("the backbone was loaded"))
        assert "MMLoP needs trained prompts: pass --model-dir" in refused("--eval-only")
        assert "No checkpoint" in refused("--eval-only", model_dir=str(tmp_path / "nowhere"))
        assert "cut short" in refused("--eval-only", model_dir=str(tmp_path / "damaged"))
    results = run("MMLoP", "refused", "--eval-only", model_dir=str(tmp_path / "trained"))
    checkpoint = tmp_path / "trained" / "prompt_learner" / "model.pth.tar-2"
    assert results["evaluated_checkpoint"] == {"path": str(checkpoint), "epoch": 2}


def test_an_evaluation_with_other_options_than_the_training(run, refused, tmp_path):
    run("MMLoP", "trained")
    trained = {"model_dir": str(tmp_path / "trained")}
    message = refused("--eval-only", "TRAINER.MMLOP.UDC", "False", **trained)
    assert "was trained with TRAINER.MMLOP.UDC True, and this run has False" in message
    assert run("MMLoP", "refused", "--eval-only", "TRAINER.MMLOP.PREC", "bf16", **trained)


def test_whole_numbers_serve_as_weights(run, tmp_path):
    (tmp_path / "whole.yaml").write_text("TRAINER:\n  MMLOP:\n    IMAGE_LOSS_WEIGHT: 5\n")
    whole = ("TRAINER.MMLOP.TEXT_LOSS_WEIGHT", "25")
    results = run("MMLoP", "whole", *whole, config_file=str(tmp_path / "whole.yaml"))
    node = results["config"]["TRAINER"]["MMLOP"]
    assert (node["TEXT_LOSS_WEIGHT"], node["IMAGE_LOSS_WEIGHT"]) == (25.0, 5.0)


def test_an_output_folder_that_is_a_file(refused, tmp_path):
    """Or a path below one, or one where no folder can be made."""
    (tmp_path / "file").write_text("")
    for path, reason in (
        (tmp_path / "file", "File exists"),
        (tmp_path / "file" / "a", "Not a directory"),
        (Path("/proc/mine"), "No such file or directory"),
        (tmp_path / ("a" * 300), "File name too long"),
    ):
        shown = refused(output_dir=str(path))
        assert shown.endswith(
            f"No folder can be made at --output-dir {path} ({reason}): pass another."
        )


def test_an_output_folder_that_holds_no_run(refused, tmp_path):
    for number in range(9):
        (tmp_path / f"blue_{number}.jpg").write_text("")
    shown = refused(output_dir=str(tmp_path))
    names = ", ".join(f"blue_{number}.jpg" for number in range(5))
    assert f"holds other files and no run ({names}, ...): pass a new or empty" in shown
    assert "--overwrite" not in shown and "delete" not in shown


def test_an_unfinished_run_that_is_evaluated(run, tmp_path):
    """A warning says so, unless this epoch was asked for or is the best on validation images."""
    run("CoOp", "run", "TRAIN.CHECKPOINT_FREQ", "1")
    model_dir, folder = str(tmp_path / "run"), tmp_path / "run" / "prompt_learner"

    def log(name, **flags):
        run("CoOp", name, "--eval-only", model_dir=model_dir, **flags)
        return (tmp_path / name / "log.txt").read_text()

    assert "of an unfinished" not in log("finished")
    (folder / "model.pth.tar-2").unlink()
    assert "tar-1 is of an unfinished run: 1 of 2 epochs are trained\n" in log("unfinished")
    assert "of an unfinished" not in log("asked", load_epoch="1")
    (folder / "model.pth.tar-1").rename(folder / "model-best.pth.tar")
    assert "of an unfinished" not in log("best")


def test_flags_behind_pairs():
    arguments = ["--trainer", "MMLoP", "OPTIM.LR", "0.1", "--seed", "1"]
    with pytest.raises(ValueError, match="Flags come before the KEY VALUE pairs: move --seed"):
        cli.setup_cfg(cli.parse_args(arguments))


def test_a_root_without_a_data_set():
    with pytest.raises(ValueError, match="--root is given but no data set"):
        cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP", "--root", "DATA"]))


def test_checkpoints_that_do_not_fit(run, refused, tmp_path, tiny_file):
    run("MMLoP", "trained")
    trained = {"model_dir": str(tmp_path / "trained")}
    message = refused("--eval-only", "TRAINER.MMLOP.RANK", "2", name="a", **trained)
    assert "holds other prompts than this configuration asks for" in message
    assert "expected up [9, 4, 2]" in message and "found up [9, 4, 1]" in message
    assert "holds prompts of MMLoP: pass --trainer MMLoP" in refused(
        "--eval-only", trainer="IVLP", name="b", **trained
    )
    message = refused("--eval-only", name="c", load_epoch="7", **trained)
    assert "model.pth.tar-7; the folder holds model.pth.tar-2" in message
    message = refused("--eval-only", name="d", model_dir=str(tmp_path / "nowhere"))
    assert "nowhere/prompt_learner: --model-dir takes the OUTPUT_DIR of a training" in message

    weights = torch.load(tiny_file, weights_only=True)
    other = {key: value + 1e-3 for key, value in weights.items()}
    torch.save(other, tmp_path / "other.pth")
    message = refused("--eval-only", name="e", backbone=str(tmp_path / "other.pth"), **trained)
    assert "and these weights are another" in message


def test_a_diverged_loss_says_where(run, capsys):
    with pytest.raises(SystemExit) as error:
        run("MMLoP", "nan", "OPTIM.LR", "1e30", "OPTIM.WARMUP_EPOCH", "-1", "OPTIM.MAX_EPOCH", "9")
    assert error.value.code == 3
    assert "Loss is infinite or NaN" in capsys.readouterr().err


def test_no_trainer():
    with pytest.raises(ValueError, match="No method is named: pass --trainer MMLoP"):
        cli.setup_cfg(cli.parse_args([]))


def test_the_command_itself_exits_with_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "train.py", "--trainer", "MMLoP", "OPTIM.LRR", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert 'Unknown key "OPTIM.LRR"' in done.stderr and "Traceback" not in done.stderr
