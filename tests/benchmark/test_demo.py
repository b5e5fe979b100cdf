import sys

import pytest

from benchmark import demo


@pytest.fixture
def pretend(monkeypatch, result):
    """The runs of the demo are not made: their results are there at once."""

    def execute(planned, args, retry, resume):
        for run, _ in planned:
            result(args.output, run, 60.0 + run.seed, *args.pairs)
        assert "--retry-failed OPTIM" in retry and not args.retry_failed
        assert resume.startswith("run: python -m benchmark.run base2new --root demo")
        return 0

    monkeypatch.setattr(demo.run, "execute", execute)


def test_the_demo_s_runs_end_in_its_table(tmp_path, monkeypatch, capsys, pretend):
    output = tmp_path / "demo"
    output.mkdir()
    (output / "earlier").write_text("")
    monkeypatch.setattr(sys, "argv", ["demo", "--output", str(output)])
    with pytest.raises(SystemExit) as end:
        demo.main()
    assert end.value.code == 0
    out = capsys.readouterr().out
    names = ("ZeroshotCLIP", "IVLP", "MMLoP")
    lines = [line.split() for line in out.splitlines()]
    rows = [" ".join(words[:5]) for words in lines if words and words[0] in names]
    assert rows == [
        "ZeroshotCLIP 61.00 (1) 61.00 (1)",
        "IVLP 62.00 ± 1.00 (3)",
        "MMLoP 62.00 ± 1.00 (3)",
    ]
    assert "missing" not in out and "OPTIM.MAX_EPOCH is 12" in out
    assert "held earlier runs: they are now in" in out
    assert len(list(tmp_path.glob("demo-*/earlier"))) == 1
