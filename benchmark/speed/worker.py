"""One side of a speed comparison: a process that builds one trainer and times what it is asked to.

    python worker.py PLAN        (a JSON object; started by benchmark.speed.sides)

It takes a JSON object a line from its standard input, calls the function that its "do" names, and
answers with a line of JSON; what the trainer prints goes to standard error. It imports nothing of
this repository but what the side's own file does, since the packages of the two sides have the same
names. PLAN:

    side       Python file with prepare(plan, clock), which returns a function that builds the
               trainer, and what is told of it: "templates" and "of_templates", how many make up
               the frozen text features here and really, and "shims", changes from outside
    path       folders to import from, first to last
    threads    that PyTorch may use
    templates  how many to make the frozen text features of, null for all of them

and whatever else the side reads from it.
"""

import contextlib
import gc
import json
import os
import re
import resource
import runpy
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import torch

GPU_WARM_UP = 3  # steps in which libraries choose their kernels, and a step becomes a graph
SPARE = 0.9  # of the free memory may be taken
LOST = ("can't allocate memory", "bad_alloc", "out of memory")


class Clock:
    """Seconds by name; on a GPU, of work that is done and not just asked for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def time(self, name: str) -> Iterator[None]:
        start = now()
        yield
        self.seconds[name] += now() - start

    def wrap(self, owner: object, function: str, name: str) -> None:
        """Time every call of a function of a module or class from now on."""
        inner = getattr(owner, function)

        def timed(*args, **kwargs):
            with self.time(name):
                return inner(*args, **kwargs)

        setattr(owner, function, timed)


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Worker:
    """Answers commands; its public methods are what can be asked for."""

    def __init__(self, plan: dict) -> None:
        self.plan, self.clock, self.trainer = plan, Clock(), None
        self.make, self.told = runpy.run_path(plan["side"])["prepare"](plan, self.clock)

    def build(self, cache: str = "off") -> dict:
        """Build the trainer anew: seconds of all of it, of the model, of the frozen features.

        Args:
            cache: folder of the disk cache of frozen text features.
        """
        os.environ["MMLOP_CACHE"] = cache
        self.trainer = None
        gc.collect()
        self.clock.seconds.clear()
        with self.clock.time("whole"):
            self.trainer = self.make()
        device = self.trainer.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return {**self.told, "device": name, "seconds": dict(self.clock.seconds)}

    def warm_up(self, batch: int) -> dict:
        """The first steps, not timed: bytes held before them, and at most while they ran."""
        self.trainer.set_model_mode("train")
        self.trainer.epoch, self.trainer.batch_idx = 0, 0
        self.trainer.num_batches = sys.maxsize  # so that no epoch ends
        self.batch = self._images(batch)
        before = reset_peak()
        for _ in range(GPU_WARM_UP if torch.cuda.is_available() else 1):
            loss = self.trainer.forward_backward(self.batch)["loss"]
        return {"before": before, "peak": peak(), "loss": loss}

    def step(self) -> dict:
        """A training step."""
        start = now()
        self.trainer.forward_backward(self.batch)
        return {"seconds": now() - start}

    def evaluate(self, images: int, batches: int) -> dict:
        """An evaluation; where the text can be encoded by itself, also the seconds of that."""
        self.trainer.val_loader = [self._images(images)] * batches
        start = now()
        self.trainer.test("val")
        found = {"seconds": now() - start}
        if hasattr(self.trainer.model, "fixed_text"):
            start = now()
            with self.trainer.model.fixed_text():
                found["text"] = now() - start
        return found

    def _images(self, count: int) -> dict:
        generator = torch.Generator().manual_seed(count)
        images = torch.randn(count, 3, *self.trainer.cfg.INPUT.SIZE, generator=generator)
        labels = torch.arange(count) % self.trainer.num_classes
        return {name: v.to(self.trainer.device) for name, v in (("img", images), ("label", labels))}


def reset_peak() -> int:
    """Begin to watch the memory; bytes held now: on the GPU, or by the process on a CPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # Linux: the peak is what is held now
    return _status("VmRSS")


def peak() -> int:
    """Bytes held at most since then."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes; where there is none, the peak of the process."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        return 1024 * int(re.search(rf"{field}:\s+(\d+)", file.read())[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def limit_memory() -> None:
    """Leave some memory free on a CPU, before the system ends whichever process it likes (Linux).

    Taking more than that fails here, in an orderly way.
    """
    if torch.cuda.is_available():
        return
    with contextlib.suppress(OSError, TypeError), open("/proc/meminfo") as file:
        free = 1024 * int(re.search(r"MemAvailable:\s+(\d+)", file.read())[1])
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (_status("VmData") + int(SPARE * free), hard))


def answer(worker: Worker, question: dict) -> dict:
    """What the function returns, or {"failed": why} where it ends in an error."""
    limit_memory()
    try:
        return getattr(worker, question.pop("do"))(**question)
    except Exception as error:
        said = " ".join(f"{error}".split())
        if isinstance(error, MemoryError) or any(words in said for words in LOST):
            return {"failed": "not enough memory"}
        return {"failed": f"{type(error).__name__}: {said[:300]}"}


def serve(plan: dict, make: Callable[[dict], Worker] = Worker) -> None:
    """Answer until the questions end."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path[:1] = plan["path"]
    torch.set_num_threads(plan["threads"])
    worker = make(plan)
    for line in sys.stdin:
        print(json.dumps(answer(worker, json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
