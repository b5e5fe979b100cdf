"""Ask both sides of a speed comparison in turn, and record what is measured of them.

A record is plain values: what, classes, and more of what was measured; for each side its seconds
(the median), samples and more, or {"failed": why}; ratio, how many times as long the other takes.
"""

import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from statistics import median
from typing import Any

from benchmark.speed import side

OURS, REFERENCE, TOGETHER = "ours", "reference", "together"
SEEDS = 3  # stepped together, as many as the paper trains


class Sides:
    """Ask processes in turn, by name, so that whatever else the machine does meets all alike.

    One that fails is ended, and left out of what follows.

    Attributes:
        failed: why, by name.
    """

    def __init__(self, plans: Mapping[str, Mapping[str, Any]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.failed: dict[str, str] = {}
        self.pools = {
            name: ProcessPoolExecutor(1, context, initializer=side.begin, initargs=(plan,))
            for name, plan in plans.items()
        }

    def close(self) -> None:
        for pool in self.pools.values():
            pool.shutdown()

    def ask(self, do: str, only: str = "", **arguments) -> dict[str, Any]:
        """Return the answers of the sides that are left, or of one of them."""
        answers = {}
        for name, pool in [each for each in self.pools.items() if only in ("", each[0])]:
            try:
                answers[name] = pool.submit(side.ask, do, arguments).result()
            except RuntimeError as error:
                broken = isinstance(error, BrokenProcessPool)
                self.failed[name] = "the process ended: no memory?" if broken else str(error)
                self.pools.pop(name).shutdown()
        return answers

    def repeat(self, count: int, do: str, **arguments) -> dict[str, list]:
        """Return `count` answers of each side that gives them all."""
        rounds = [self.ask(do, **arguments) for _ in range(count)]
        return {name: [answers[name] for answers in rounds] for name in self.pools}

    def record(self, what: str, classes: int, samples: Mapping[str, list], **more) -> dict:
        """Return what was measured, and as `ratio` how many times as long the other side takes."""
        found = {"what": what, "classes": classes, **more}
        found |= {n: {"seconds": median(each), "samples": each} for n, each in samples.items()}
        found |= {name: {"failed": why} for name, why in self.failed.items()}
        if {OURS, REFERENCE} <= set(samples):
            found["ratio"] = found[REFERENCE]["seconds"] / found[OURS]["seconds"]
        return found


def measure_start(sides: Sides, classes: int, repeats: int, cache: str) -> Iterator[dict]:
    """Measure the frozen text features and the whole trainer being built, with an empty cache on
    disk and a full one; the reference has none, and computes them again."""
    caches = [f"{cache}-{number}" for number in range(repeats)]
    rounds = [[sides.ask("build", cache=folder) for _ in ("cold", "warm")] for folder in caches]
    for state, answers in zip(("cold", "warm"), zip(*rounds, strict=True), strict=True):
        for part in ("frozen", "built"):
            samples = {name: [each[name][part] for each in answers] for name in sides.pools}
            yield sides.record(f"{part}, {state}", classes, samples)


def measure_seeds(sides: Sides, classes: int, repeats: int, batch: int) -> dict:
    """Measure a step of one of our seeds, and one of several together, without optimisers."""
    samples = {OURS: [], TOGETHER: []}
    for _ in range(repeats):
        for seeds, each in ((1, samples[OURS]), (SEEDS, samples[TOGETHER])):
            each += sides.ask("gradients", only=OURS, batch=batch, seeds=seeds).values()
    if OURS in sides.failed:
        return sides.record("seeds", classes, {}, batch=batch)
    found = sides.record("seeds", classes, samples, batch=batch, seeds=SEEDS)
    return {**found, "ratio": SEEDS * found[OURS]["seconds"] / found[TOGETHER]["seconds"]}


def measure_step(sides: Sides, classes: int, repeats: int, batch: int, peak: float) -> dict:
    """Measure a training step: seconds, memory, FLOPs."""
    memory = sides.ask("first_steps", batch=batch)
    flops = sides.ask("flops", batch=batch)
    found = sides.record("step", classes, sides.repeat(repeats, "step", batch=batch), batch=batch)
    for name in sides.pools:
        found[name] |= {"memory": memory[name], "computes": flops[name]["computes"]}
    if OURS in sides.pools:
        found["needed"] = flops[OURS]["needed"]
        found[OURS]["share_of_peak"] = found["needed"] / found[OURS]["seconds"] / peak
    return found
