"""Tell how far runs are: from the logs of trainings, in one progress bar."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmark.calls import Call
from benchmark.failures import Outcome

EPOCH_LINE = re.compile(
    r"epoch \[(\d+)/(\d+)\] batch \[(\d+)/(\d+)\](?:.*? loss \S+ \(([^)\s]+)\))?"
)
TEST_SHARE = 0.1  # what a test costs, of a training
# tqdm's usual form, but it counts whole runs while it moves by parts of one.
FORM = "{{l_bar}}{{bar}}| {}/{{total_fmt}} [{{elapsed}}<{{remaining}}, {{rate_fmt}}{{postfix}}]"
SHOWN = 2  # trainings whose epoch and loss the bar shows


class Bar:
    """Show one progress bar; read from the logs how far the trainings are."""

    def __init__(self, calls: Sequence[Call]) -> None:
        weights = {call.folder: 1.0 if call.trains else TEST_SHARE for call in calls}
        scale = len(weights) / sum(weights.values())  # so that all weigh as much as there are runs
        self.weights = {folder: weight * scale for folder, weight in weights.items()}
        self.begun: dict[Path, float] = {}  # how far a training was when this runner saw it first
        # A terminal redraws one line; a log file gets a line only now and then.
        self.bar = tqdm(
            total=len(weights),
            unit="run",
            bar_format=FORM.format(0),
            dynamic_ncols=True,
            smoothing=0,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
        )

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, outcomes: Mapping[Path, Outcome], calls: Sequence[Call]) -> None:
        """Show what ended, and how far those at work are."""
        calls = [call for call in calls if call.trains and call.folder not in outcomes]
        at_work = {call.folder: progress(call.folder) for call in calls}
        shares = {folder: share for folder, (share, _) in at_work.items()}
        # What was done before costs no time, and must not make the estimate too optimistic.
        self.begun = {**shares, **self.begun}
        before = {f: 1.0 for f, outcome in outcomes.items() if outcome.kind == "skipped"}
        self.bar.initial = self._weigh({**self.begun, **before})
        failed = sum(outcome.kind == "failed" for outcome in outcomes.values())
        words = [f"{failed} failed"] * bool(failed)
        words += [text for _, text in at_work.values() if text][:SHOWN]
        self.bar.bar_format = FORM.format(len(outcomes))
        self.bar.set_postfix_str(", ".join(words), refresh=False)
        done = self._weigh({**shares, **dict.fromkeys(outcomes, 1.0)})
        self.bar.update(min(done, self.bar.total) - self.bar.n)

    def _weigh(self, shares: Mapping[Path, float]) -> float:
        return sum(self.weights[folder] * share for folder, share in shares.items())


def progress(folder: Path) -> tuple[float, str]:
    """Read from a training's log the share that is done, and epoch and loss as text."""
    logs = sorted(folder.glob("log.txt*"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return 0.0, ""
    with logs[-1].open("rb") as file:
        file.seek(max(0, logs[-1].stat().st_size - 4096))
        lines = EPOCH_LINE.findall(file.read().decode(errors="replace"))
    if not lines:
        return 0.0, ""
    *numbers, loss = lines[-1]
    epoch, epochs, batch, batches = map(int, numbers)
    text = f"epoch {epoch}/{epochs}" + (f" loss {float(loss):.2f}" if loss else "")
    return (epoch - 1 + batch / batches) / epochs, text
