import shlex
from pathlib import Path

import pytest

from benchmark import run
from benchmark.calls import units
from benchmark.failures import Outcome, record
from benchmark.plan import expand
from benchmark.protocol import load
from benchmark.run import main, parse_args


def dry(capsys, *words):
    main([*words, "--root", "data", "--output", "out", "--dry-run"])
    out, err = capsys.readouterr()
    return out.splitlines(), err


def test_a_dry_run_prints_the_exact_commands(capsys):
    lines, printed = dry(
        capsys, "base2new", "--datasets", "dtd", "--seeds", "2", "OPTIM.LR", "0.01"
    )
    home = "out/dtd/base/shots_16/MMLoP/base2new/seed2"
    start = (
        "python train.py --root data --seed 2 --trainer MMLoP "
        "--dataset-config-file configs/datasets/dtd.yaml "
        "--config-file configs/trainers/MMLoP/base2new.yaml "
    )
    shots = "DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES"
    assert lines == [
        f"{start}--output-dir {home}/train {shots} base TRAIN.CHECKPOINT_FREQ 1 OPTIM.LR 0.01",
        f"{start}--output-dir {home}/test_new --eval-only --model-dir {home}/train "
        f"{shots} new OPTIM.LR 0.01",
    ]
    table, _, last = printed.strip().rpartition("\n")
    assert last == "trainings: 1, evaluations: 2 (a training ends with one); none finished"
    # 24 of DTD's 47 classes, 16 shots, batches of 4, 30 epochs; 864 + 828 test images.
    assert table.splitlines()[-1].split() == [
        "base2new", "(table", "1)", "1", "2", "2,880", "11,520", "1,692"
    ]  # fmt: skip


def test_several_protocols_at_once_share_their_trainings(capsys):
    lines, printed = dry(capsys, "domain_generalization", "cross_dataset")
    assert len(set(lines)) == len(lines) == 3 + 3 * 4 + 3 * 10
    totals = [line.split()[-5:-3] for line in printed.splitlines()[2:5]]
    assert totals == [["3", "15"], ["3", "33"], ["3", "45"]]
    assert printed.splitlines()[4].startswith("all together")


def test_one_step_alone(capsys):
    for step, count in (("train", 33), ("test", 33)):
        lines, _ = dry(capsys, "base2new", "--only", step)
        assert len(lines) == count
        assert all(("--eval-only" in shlex.split(line)) is (step == "test") for line in lines)


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["base2new", "OPTIM.LRR", "1"], 'Unknown key "OPTIM.LRR" in the command line'),
        (["base3new"], 'No protocol "base3new"'),
        (["few_shot", "--only", "test"], "There is nothing to run"),
        (
            ["sensitivity_rank", "TRAINER.MMLOP.RANK", "3"],
            "what the rows of sensitivity_rank differ in",
        ),
        (["base2new", "--retry-failed"], "nothing to retry: out/failures.json lists no run"),
    ],
)
def test_wrong_words_end_in_one_sentence_before_any_run(words, printed, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words, "--root", "data", "--output", "out"])
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.startswith("benchmark.run: ") and printed in err
    assert len(err.strip().splitlines()) == 1


def test_lists_and_pairs_may_stand_in_any_order():
    words = "base2new few_shot --seeds 1,2 --root data --shots 4 --output out OPTIM.LR 1"
    args = parse_args(shlex.split(words))
    assert (args.protocols, args.pairs) == (["base2new", "few_shot"], ["OPTIM.LR", "1"])
    assert (args.seeds, args.shots) == ([1, 2], [4])


def test_a_protocol_of_capital_letters_is_no_key():
    args = parse_args(shlex.split("VTAB.yaml --root data --output out OPTIM.LR 1"))
    assert (args.protocols, args.pairs) == (["VTAB.yaml"], ["OPTIM.LR", "1"])


def test_fewer_than_one_run_at_once_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        parse_args(shlex.split("base2new --root data --output out --jobs 0"))
    assert end.value.code == 2
    assert "argument --jobs: expected 1 or more, not 0" in capsys.readouterr().err


def test_only_what_failed_is_retried(tmp_path):
    words = f"base2new few_shot --root data --output {tmp_path} --retry-failed"
    args = parse_args(shlex.split(words))
    folders = [each.folder for each in expand(load("base2new")) if each.seed == 3][:2]
    other = expand(load("cross_dataset"))[0].folder  # of no protocol that is asked for
    outcomes = {tmp_path / f: Outcome(tmp_path / f, "failed", "why") for f in (*folders, other)}
    record(tmp_path, outcomes.values())
    assert [each.folder for each, _ in run.plan(args)] == folders
    record(tmp_path, [Outcome(tmp_path / folders[0], "finished")])
    assert [each.folder for each, _ in run.plan(args)] == folders[1:]


def test_gpus_count_within_the_visible_ones(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert run.chosen_gpus(["1"]) == ["5"]
    for wrong in ("2", "a"):
        with pytest.raises(ValueError, match=f"--gpus {wrong}: 2 GPUs are visible here, numbered"):
            run.chosen_gpus(["0", wrong])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(run.torch.cuda, "device_count", lambda: 4)
    assert run.chosen_gpus(["3", "1"]) == ["3", "1"]
    with pytest.raises(ValueError, match="--gpus 4: 4 GPUs are visible here, numbered from 0."):
        run.chosen_gpus(["4"])


def test_visible_gpus_are_those_given(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert run.chosen_gpus(None) == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run.chosen_gpus(None) == []


def test_together_groups_the_seeds_of_what_can_go_together(capsys):
    words = "base2new --datasets dtd --trainers MMLoP,ProGrad,ZeroshotCLIP --root data --output out"
    apart, together = (
        run.plan(parse_args(shlex.split(words + flag))) for flag in ("", " --together")
    )
    assert [call.arguments for _, call in apart] == [call.arguments for _, call in together]
    assert not any(call.group for _, call in apart)
    home = Path("out/dtd/base/shots_16/MMLoP/base2new").resolve()
    groups = {(r.trainer, call.group) for r, call in together}
    assert groups == {("MMLoP", home), ("ProGrad", None), ("ZeroshotCLIP", None)}
    sizes = [len(unit) for unit in units([call for _, call in together])]
    assert sorted(sizes) == [2, 2, 2, 2, 6]  # three seeds of MMLoP with their tests are one
