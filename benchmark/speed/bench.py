"""What is measured: a training step, an evaluation, the start. Each gives a record of plain values:

what, classes, ...     what was measured
needed                 FLOPs that it needs at least
ours, reference        seconds (median), samples, share_of_peak and more, or {"failed": why}
ratio                  how many times as long the reference takes
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

import train
from benchmark.speed import flops, ours, reference, world
from benchmark.speed.sides import Comparison, Process
from benchmark.speed.worker import now
from prompting import class_prompts, context_text, tokenize
from prompting.precision import WEIGHT_DTYPES
from prompting.templates import ENSEMBLE
from trainers.config import CONFIGS

OURS, REFERENCE, TOGETHER = "ours", "reference", "together"
SEEDS = 3  # stepped together, as many as the paper trains
IMAGES = 100  # in a batch of evaluation, as in every configuration of the family
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Checkouts:
    """The folders of PromptSRC and of Dassl.pytorch."""

    promptsrc: Path
    dassl: Path


class Bench:
    """Weights and data, the same for both sides, and what is measured on them.

    Args:
        backbone: a name, a file, or "random".
        precision: of both sides.
        threads: of each side.
        repeats: times that everything is measured.
        reference: to measure too; None: ours alone.
        scratch: an empty folder.
        pairs: KEY VALUE options of our trainer.

    Attributes:
        peak: the machine's best rate, FLOP/s.
        told: by side, the device, the shims and how many templates were left out.
    """

    def __init__(
        self,
        backbone: str,
        precision: str,
        threads: int,
        repeats: int,
        reference: Checkouts | None,
        scratch: Path,
        pairs: Sequence[str] = (),
    ) -> None:
        self.precision, self.threads, self.repeats = precision, threads, repeats
        self.reference, self.scratch, self.launched = reference, scratch, 0
        self.weights = scratch / "weights.pth"
        self.pairs = list(pairs)
        words = ours.settings(str(CONFIGS), "", str(self.weights), 1, precision) + self.pairs
        self.options = train.setup_cfg(train.parse_args(words)).TRAINER.MMLOP
        model = world.load_model(backbone)
        depths = (self.options.PROMPT_DEPTH_TEXT, self.options.PROMPT_DEPTH_VISION)
        self.shape = flops.shape_of(model, self.options.N_CTX, depths)
        self.size = model.visual.input_resolution
        world.write_weights(model, self.weights)
        self.peak = peak_rate(precision)
        self.told: dict[str, dict] = {}

    def step(self, classes: int, batch: int) -> dict:
        """Seconds of a training step, and bytes: held before the first one, and at its peak."""
        with self.launch(classes, batch, templates=1) as sides:
            self.build(sides)
            memory = sides.ask("warm_up", batch=batch)
            found = sides.repeat(self.repeats, "step")
        needed = flops.needed_step(self.shape, batch, self.words(classes))
        record = {"what": "step", "classes": classes, "batch": batch}
        record = self.record(record, needed, _seconds(found), sides.failed)
        for name in found:
            record[name]["memory"] = {key: memory[name][key] for key in ("before", "peak")}
        if REFERENCE in found:
            record[REFERENCE]["computes"] = flops.plain_step(self.shape, batch, classes)
        return record

    def evaluation(self, classes: int, batches: int) -> dict:
        """Seconds of an evaluation, and images per second."""
        images = IMAGES * batches
        with self.launch(classes, 1, templates=1) as sides:
            self.build(sides)
            sides.ask("evaluate", images=1, batches=1)
            found = sides.repeat(self.repeats, "evaluate", images=IMAGES, batches=batches)
        needed = flops.needed_evaluation(self.shape, images, self.words(classes))
        record = {"what": "evaluation", "classes": classes, "batches": batches, "images": images}
        record = self.record(record, needed, _seconds(found), sides.failed)
        for name in found:
            record[name]["images_per_second"] = images / record[name]["seconds"]
        if OURS in found:
            record[OURS]["text_seconds"] = median(answer["text"] for answer in found[OURS])
        if REFERENCE in found:
            computes = flops.plain_evaluation(self.shape, images, classes, batches)
            record[REFERENCE]["computes"] = computes
        return record

    def start(self, classes: int) -> dict:
        """Seconds of the frozen text features, cold; `parts` also has those of building the model
        and of everything, and, for ours, the same warm, with the features on disk.

        The reference makes the features of one template a time, and has no cache: its seconds are
        what all of them would take.
        """
        cold, warm = {OURS: [], REFERENCE: []}, []
        with self.launch(classes, 1, templates=None) as sides:
            for number in range(self.repeats):
                cache = str(self.scratch / f"cache-{self.launched}-{number}")
                for name, answer in self.build(sides, cache=cache).items():
                    cold[name].append(_whole(answer))
                warm += map(_whole, self.build(sides, only=OURS, cache=cache).values())
        cold = {name: cold[name] for name in sides.sides}
        needed = flops.needed_frozen_text(
            self.shape, [self.words(classes, template) for template in ENSEMBLE]
        )
        frozen = {name: [parts["frozen"] for parts in answers] for name, answers in cold.items()}
        record = {"what": "start", "classes": classes}
        record = self.record(record, needed, frozen, sides.failed)
        for name, answers in cold.items():
            record[name]["parts"] = {"cold": _medians(answers)}
        if REFERENCE in cold:
            computes = flops.plain_frozen_text(self.shape, classes, len(ENSEMBLE))
            record[REFERENCE]["computes"] = computes
        if OURS in cold:
            record[OURS]["parts"]["warm"] = _medians(warm)
        if len(cold) == 2:
            warm_seconds = record[OURS]["parts"]["warm"]["frozen"]
            record["ratio_warm"] = record[REFERENCE]["seconds"] / warm_seconds
        return record

    def seeds(self, classes: int, batch: int) -> dict:
        """Seconds of a step of several seeds stepped together, in turn with a step of one."""
        sides = {
            OURS: self._ours(classes, batch, 1),
            TOGETHER: self._ours(classes, batch, 1, SEEDS),
        }
        with Comparison(sides) as sides:
            sides.ask("build")
            sides.ask("warm_up", batch=batch)
            found = sides.repeat(self.repeats, "step")
        needed = flops.needed_step(self.shape, batch, self.words(classes))
        record = {"what": "seeds", "classes": classes, "batch": batch, "seeds": SEEDS}
        record = self.record(record, needed, _seconds(found), sides.failed)
        if TOGETHER in found:
            record[TOGETHER]["share_of_peak"] *= SEEDS
        if len(found) == 2:
            apart = SEEDS * record[OURS]["seconds"]
            record["ratio"] = apart / record[TOGETHER]["seconds"]
        return record

    def words(self, classes: int, template: str = "") -> flops.Words:
        """The sentences of a template, or those that the prompts stand in."""
        names, options = world.class_names(classes), self.options
        if template:
            return flops.words_of(tokenize(class_prompts(names, template)))
        prompt = context_text(options.CTX_INIT, options.N_CTX) + " {}."
        return flops.words_of(tokenize(class_prompts(names, prompt), options.N_CTX))

    def launch(self, classes: int, batch: int, templates: int | None) -> Comparison:
        """New processes.

        Args:
            batch: images in a training step.
            templates: how many make the frozen text features; None: all, for the reference one.
        """
        sides = {OURS: self._ours(classes, batch, templates)}
        if self.reference:
            sides[REFERENCE] = self._theirs(classes, batch)
        return Comparison(sides)

    def _ours(self, classes: int, batch: int, templates: int | None, seeds: int = 1) -> Process:
        words = ours.settings(
            str(CONFIGS), self._data(classes, OURS), str(self.weights), batch, self.precision
        )
        plan = {
            "threads": self.threads,
            "templates": templates,
            "seeds": seeds,
            "side": str(HERE / "ours.py"),
            "path": [str(ROOT)],
            "settings": words + self.pairs,
        }
        return self._start(plan, ROOT)

    def _theirs(self, classes: int, batch: int) -> Process:
        settings = reference.settings(
            self._data(classes, REFERENCE),
            batch,
            self.precision,
            self.size,
            str(self.scratch / "output"),
        )
        plan = {
            "threads": self.threads,
            "templates": 1,
            "precision": self.precision,
            "side": str(HERE / "reference.py"),
            "path": [str(self.reference.promptsrc), str(self.reference.dassl)],
            "settings": settings,
            "weights": str(self.weights),
        }
        return self._start(plan, self.reference.promptsrc)

    def _start(self, plan: dict, folder: Path) -> Process:
        self.launched += 1
        return Process(plan, folder, self.scratch / f"side-{self.launched}.log")

    def build(self, sides: Comparison, **arguments) -> dict[str, dict]:
        """Have the trainers built; keeps what they tell of themselves."""
        answers = sides.ask("build", **arguments)
        for name, answer in answers.items():
            self.told[name] = {key: answer[key] for key in ("device", "shims", "of_templates")}
        return answers

    def record(
        self,
        what: dict,
        needed: int,
        samples: Mapping[str, Sequence[float]],
        failed: Mapping[str, str],
    ) -> dict:
        """`what`, with the figures of each side."""
        record = {**what, "needed": needed}
        for name, values in samples.items():
            seconds = median(values)
            share = needed / seconds / self.peak
            record[name] = {"seconds": seconds, "samples": list(values), "share_of_peak": share}
        record |= {name: {"failed": why} for name, why in failed.items()}
        if {OURS, REFERENCE} <= set(samples):
            record["ratio"] = record[REFERENCE]["seconds"] / record[OURS]["seconds"]
        return record

    def _data(self, classes: int, side: str) -> str:
        """The side's own copy of the data set; upstream's loader writes into it."""
        root = self.scratch / f"{side}-{classes}"
        if not root.exists():
            world.write_dataset(root, world.class_names(classes))
        return str(root)


def peak_rate(precision: str) -> float:
    """FLOP/s of a large product of matrices, the best of twenty."""
    cuda = torch.cuda.is_available()
    dtype = WEIGHT_DTYPES[precision]
    if precision == "amp":
        dtype = torch.float16 if cuda else torch.bfloat16
    side = 8192 if cuda else 2048
    matrix = torch.randn(side, side).to("cuda" if cuda else "cpu", dtype)
    seconds = []
    for _ in range(20):
        start = now()
        torch.mm(matrix, matrix)
        seconds.append(now() - start)
    return 2 * side**3 / min(seconds)


def _seconds(answers: Mapping[str, Sequence[dict]]) -> dict[str, list[float]]:
    return {name: [answer["seconds"] for answer in each] for name, each in answers.items()}


def _whole(answer: dict) -> dict[str, float]:
    """Seconds of a start as they would be with all templates."""
    seconds = answer["seconds"]
    left_out = seconds["frozen"] * (answer["of_templates"] / answer["templates"] - 1)
    return {name: value + left_out for name, value in seconds.items()}


def _medians(answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: median(answer[name] for answer in answers) for name in answers[0]}
