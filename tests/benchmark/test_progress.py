import pytest

from benchmark.calls import Call
from benchmark.failures import Outcome
from benchmark.progress import Bar, progress

LOG = "epoch [12/30] batch [5/10] time 0.1 (0.1) data 0.0 (0.0) loss 1.50 (1.2345) loss_ce 1 (1)\n"


def test_the_log_s_last_line_tells_epoch_and_loss(tmp_path):
    assert progress(tmp_path) == (0.0, "")
    (tmp_path / "log.txt").write_text(LOG.replace("12/30", "11/30") + LOG)
    share, text = progress(tmp_path)
    assert share == pytest.approx(11.5 / 30) and text == "epoch 12/30 loss 1.23"
    (tmp_path / "log.txt").write_text(LOG.split(" time")[0])
    assert progress(tmp_path)[1] == "epoch 12/30"


def test_the_bar_has_tqdm_s_form_and_ignores_what_was_done_before(tmp_path):
    """Of four trainings two were skipped; of the other two one is half done after ten seconds."""
    folders = [tmp_path / str(number) for number in range(4)]
    folders[2].mkdir()
    calls = [Call((), folder, trains=True) for folder in folders]
    with Bar(calls) as bar:
        outcomes = {folder: Outcome(folder, "skipped") for folder in folders[:2]}
        bar.show(outcomes, calls[2:3])
        (folders[2] / "log.txt").write_text(LOG.replace("12/30", "15/30").replace("5/10", "10/10"))
        bar.show(outcomes, calls[2:3])
        text = bar.bar.format_meter(**{**bar.bar.format_dict, "elapsed": 10.0, "ncols": 90})
    assert text.startswith(" 62%|") and "| 2/4 [00:10<00:30, 20.00s/run" in text
    assert text.endswith(", epoch 15/30 loss 1.23]")
