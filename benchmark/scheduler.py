"""Run the units of a plan on this machine, several at a time; show one progress bar."""

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock, Thread

from tqdm import tqdm

from benchmark.calls import Plan, unit_name
from benchmark.failures import Outcome
from benchmark.progress import Bar
from benchmark.unit import BUSY, follow, start

RETRY = 2.0  # seconds until a unit that another process has is tried again
GRACE = 120.0  # seconds for an interrupted run to save


class Scheduler:
    """Work through the units of a plan; a failing one does not stop the others.

    Args:
        numbers: of the units to run.
        places: for each unit at once the number of its GPU, or None: it sees what this one sees.
        outcomes: by folder, of runs that need no process; the others are added as they end.
    """

    def __init__(self, plan: Plan, numbers: Sequence, places: Sequence, outcomes: dict) -> None:
        self.plan, self.outcomes = plan, outcomes
        self._path = plan.write()
        self._waiting = deque(numbers)
        self._at_work: dict[int, subprocess.Popen] = {}
        self._held: set[int] = set()  # units that another process had
        self._stopping = False
        self._turn = Lock()  # no process is started while all are asked to end
        # Daemons: a second signal waits for nothing.
        self._threads = [Thread(target=self._work, args=(gpu,), daemon=True) for gpu in places]

    def run(self) -> None:
        """Run all units; after Ctrl-C or SIGTERM outcomes of runs that did not end are absent."""
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with Bar(self.plan.calls) as bar:
                for thread in self._threads:
                    thread.start()
                while alive := [thread for thread in self._threads if thread.is_alive()]:
                    alive[0].join(0.5)
                    numbers = list(self._at_work)
                    bar.show(dict(self.outcomes), [c for n in numbers for c in self.plan.units[n]])
        except KeyboardInterrupt:
            self._interrupt()
        finally:
            signal.signal(signal.SIGTERM, before)

    def _work(self, gpu: str | None) -> None:
        """Run one unit after another on a GPU, which is all that their processes see."""
        environment = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        while True:
            with self._turn:
                if self._stopping or not self._waiting:
                    return
                number = self._waiting.popleft()
                calls = self.plan.units[number]
                try:
                    process = self._at_work[number] = start(self._path, number, **environment)
                except OSError as error:  # no memory for another process, say
                    for call in calls:
                        self.outcomes[call.folder] = Outcome(call.folder, "failed", str(error))
                    continue
            for outcome in follow(process, calls):
                if outcome.kind == "finished" or not self._stopping:
                    # What was stopped was so by somebody else.
                    kind = outcome.kind.replace("stopped", "failed")
                    self.outcomes[outcome.folder] = replace(outcome, kind=kind)
            del self._at_work[number]
            if process.returncode == BUSY:
                if number not in self._held:
                    self._held.add(number)
                    name = unit_name(self.plan, number)
                    tqdm.write(f"waiting for {name}: another process has it", file=sys.stderr)
                self._waiting.append(number)
                time.sleep(RETRY)

    def _interrupt(self) -> None:
        """Ask all processes to save and end, and wait for them."""
        print("\nInterrupted: the running ones save and end.", file=sys.stderr)
        with self._turn:
            self._stopping = True
            for process in list(self._at_work.values()):
                process.terminate()
        end = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for process in list(self._at_work.values()):
            process.kill()
