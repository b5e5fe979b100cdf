import json
import sys

import pytest

from benchmark import demo
from benchmark.runs import Job, run_jobs, set_aside

SHORT = ("DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1")


def test_the_demo_s_jobs_end_in_table_and_json(tmp_path, monkeypatch, capsys):
    """The demo itself, with one shot and one epoch."""
    full = demo.demo_jobs

    def short(output, seeds):
        return [
            Job(job.label, job.trainer, job.seed, job.folder, options=SHORT)
            for job in full(output, seeds)
        ]

    monkeypatch.setattr(demo, "demo_jobs", short)
    output = tmp_path / "demo"
    monkeypatch.setattr(sys, "argv", ["demo", "--output", str(output), "--seeds", "1"])
    for _ in range(2):
        demo.main()
    results = json.loads((output / "results.json").read_text())
    assert [entry["method"] for entry in results["summary"]] == ["ZeroshotCLIP", "IVLP", "MMLoP"]
    mmlop = results["runs"][2]
    assert (mmlop["base"]["subsample"], mmlop["new"]["subsample"]) == ("base", "new")
    assert [mmlop[half]["total"] for half in ("base", "new")] == [960, 960]
    assert mmlop["new"]["evaluated_checkpoint"]["path"].startswith(str(output))
    printed = capsys.readouterr().out
    assert "held earlier runs: they are now in" in printed
    assert printed.count("MMLoP") == 2  # one line in each of the two tables
    assert len(list(tmp_path.glob("demo-*"))) == 1


def test_a_failing_run_is_named_and_the_others_end(tmp_path):
    bad = Job("bad", "MMLoP", 1, tmp_path / "bad", options=("TRAINER.MMLOP.RANK", "9"))
    good = Job("good", "ZeroshotCLIP", 1, tmp_path / "good")
    with pytest.raises(
        RuntimeError, match="(?s)1 of 2 runs failed.*bad seed 1 in .*RANK is 9: .*exit status 2"
    ):
        run_jobs([bad, good], workers=1)
    assert (tmp_path / "good" / "new" / "results.json").exists()


def test_setting_aside_loses_nothing(tmp_path):
    folder = tmp_path / "demo"
    for text in ("first", "second"):
        folder.mkdir()
        (folder / "note").write_text(text)
        set_aside(folder)
    kept = sorted(path.read_text() for path in tmp_path.glob("demo-*/note"))
    assert kept == ["first", "second"] and not folder.exists()
