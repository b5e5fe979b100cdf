import json

from benchmark import protocol as protocols
from benchmark import smoke_test
from experiment.config import CONFIGS


def test_a_small_smoke_test_ends_in_the_page(tmp_path, monkeypatch, capsys):
    """The smoke test itself: one part, one seed, one image per class, one epoch."""
    monkeypatch.setattr(smoke_test, "PARTS", (["base2new", "--trainers", "ZeroshotCLIP,IVLP"],))
    monkeypatch.setattr(smoke_test, "SEEDS", (1,))
    monkeypatch.setattr(smoke_test, "SETTINGS", ["OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "1"])
    output = tmp_path / "smoke"
    assert smoke_test.smoke_test(output, jobs=2) == 0
    printed = capsys.readouterr()
    assert "trainings: 1, evaluations: 4" in printed.err and "The smoke test took" in printed.out
    assert "58.33 (1)" in printed.out  # zero-shot CLIP, as the README has it
    assert "(1 of" not in printed.out  # its seeds are all there should be
    assert "IVLP" in (output / "report" / "index.html").read_text()
    records = [json.loads(path.read_text()) for path in output.rglob("results.json")]
    assert [record["total"] for record in records] == [960] * 4


def test_all_protocols_are_run_and_none_fails_to_expand(tmp_path):
    planned = smoke_test.plan(tmp_path, 2)
    folders = {call.folder for _, call in planned}
    assert len(folders) == len(planned)
    named = {name for part in smoke_test.PARTS for name in part if name in protocols.names()}
    assert named == set(protocols.names()) - {"sweep"}  # which is for the demo world alone
    methods = {path.name for path in (CONFIGS / "trainers").iterdir()}
    assert {run.trainer for run, _ in planned} == methods


def test_a_finished_smoke_test_is_kept_and_an_interrupted_or_failed_one_resumed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(smoke_test, "PARTS", (["base2new", "--trainers", "ZeroshotCLIP"],))
    monkeypatch.setattr(smoke_test.run, "execute", lambda *_: 130)
    output = tmp_path / "smoke"
    (output / "report").mkdir(parents=True)
    (output / "mine").write_text("")
    assert smoke_test.smoke_test(output, jobs=1) == 130 and (output / "mine").exists()
    (output / "report" / "index.html").write_text("")
    (output / "failures.json").write_text('{"a": {}}')
    assert smoke_test.smoke_test(output, jobs=1) == 130 and (output / "mine").exists()
    (output / "failures.json").unlink()
    smoke_test.smoke_test(output, jobs=1)
    assert not (output / "mine").exists() and len(list(tmp_path.glob("smoke-*/mine"))) == 1
