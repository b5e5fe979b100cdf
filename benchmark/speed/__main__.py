"""Measure how long a training step, an evaluation and a start take, and how much they have to.

    python -m benchmark.speed --output speed.json
    python -m benchmark.speed --against PROMPTSRC_CHECKOUT --dassl DASSL_CHECKOUT --classes 50,500

Measured is a whole MMLoP trainer, built by train.py, on images that lie in memory: loading data is
not in it. With --against PromptSRC's own trainer on upstream's Dassl does the same, in turn with
ours, on the same weights, class names, images, precision and number of threads.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from clip.model import CLIP, convert_weights
from clip.simple_tokenizer import SimpleTokenizer
from dassl.utils import write_json
from PIL import Image
from tabulate import tabulate
from torch.utils.benchmark import Timer

from benchmark import command_line
from benchmark.protocol import comma, numbers
from benchmark.speed import side
from benchmark.speed.compare import (
    OURS,
    REFERENCE,
    TOGETHER,
    Sides,
    measure_seeds,
    measure_start,
    measure_step,
)
from benchmark.speed.projection import project
from experiment.config import CONFIGS
from prompting import load_backbone
from prompting.feature_cache import processor
from prompting.precision import WEIGHT_DTYPES
from trainers.results import commit, versions

ABOUT = """\
Seconds are medians. needed: FLOPs of the matrix products that no step can do without
(benchmark/speed/bound.py); computes: those it does, as PyTorch's FlopCounterMode counts them; of
peak: the rate of the needed ones, as a share of the rate of one large matrix product. Memory is the
peak of the first steps less what was held before, on a CPU of the process, on a GPU of PyTorch."""
MEASURES = ("step", "seeds", "evaluation", "start")
VIT_B16 = dict(  # the widths, layers and image size of OpenAI's
    embed_dim=512, image_resolution=224, vision_layers=12, vision_width=768, vision_patch_size=16,
    context_length=77, vocab_size=49408, transformer_width=512, transformer_heads=8,
    transformer_layers=12,
)  # fmt: skip
# A file that a checkout of PromptSRC holds, and one of upstream's Dassl.
CHECKOUTS = {"against": "trainers/promptsrc.py", "dassl": "dassl/engine/trainer.py"}
ROOT = CONFIGS.parent
OUR_CONFIG = CONFIGS / "trainers" / "MMLoP" / "base2new.yaml"
THEIR_CONFIG = "configs/trainers/PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx.yaml"
logger = logging.getLogger("dassl")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = "%(prog)s [options] [KEY VALUE ...]"
    parser = command_line("benchmark.speed", __doc__, usage)
    add = parser.add_argument
    add("--classes", type=numbers, default=[10, 50, 100, 500, 1000])
    add("--batch", type=numbers, default=[4, 32], help="images in a training step")
    add("--measure", type=comma, default=list(MEASURES), help=f"some of {','.join(MEASURES)}")
    add("--repeats", type=int, default=5, help="samples of each side, taken in turn")
    add("--threads", type=int, default=torch.get_num_threads(), help="of each side")
    add("--precision", choices=tuple(WEIGHT_DTYPES), default="fp32")
    add("--backbone", default="random", help='"random" (the shape of ViT-B/16), a name or a file')
    add("--against", type=Path, help="checkout of muzairkhattak/PromptSRC")
    add("--dassl", type=Path, help="checkout of KaiyangZhou/Dassl.pytorch")
    add("--project", action="store_true", help="hours that the paper's tables take")
    add("--output", type=Path, help="JSON file for all figures")
    add("pairs", nargs="*", metavar="KEY VALUE", help="options of our trainer")
    args = parser.parse_intermixed_args(argv)
    if min(args.classes) < 2:
        parser.error(f"--classes takes two or more each, got {min(args.classes)}.")
    for name in args.measure:
        if name not in MEASURES:
            parser.error(f"--measure {name} is unknown: choose {', '.join(MEASURES)}.")
    if (args.against is None) != (args.dassl is None):
        parser.error("--against and --dassl go together: PromptSRC runs on upstream's Dassl.")
    for flag, marker in CHECKOUTS.items() if args.against else ():
        folder = getattr(args, flag).resolve()
        if not (folder / marker).is_file():
            parser.error(f"--{flag} {folder} is no such checkout: it holds no {marker}.")
        setattr(args, flag, folder)
    return args


def measure(args: argparse.Namespace, scratch: Path, classes: int, peak: float) -> Iterator[dict]:
    """Measure what is asked for with this many classes; last what may take too much memory."""
    with closing(Sides(plans(args, scratch, classes))) as sides:
        cache = str(scratch / f"cache-{classes}")
        if "start" in args.measure:
            yield from measure_start(sides, classes, args.repeats, cache)
        if "evaluation" in args.measure:
            sides.ask("build", cache=cache)
            samples = sides.repeat(args.repeats, "evaluate")
            yield sides.record("evaluation", classes, samples, images=side.IMAGES)
        for batch in args.batch if {"step", "seeds"} & {*args.measure} else ():
            sides.ask("build", cache=cache)  # a CUDA graph is of one batch size
            if "step" in args.measure:
                yield measure_step(sides, classes, args.repeats, batch, peak)
            if "seeds" in args.measure:
                yield measure_seeds(sides, classes, args.repeats, batch)


def plans(args: argparse.Namespace, scratch: Path, classes: int) -> dict[str, dict]:
    """Return the arguments of our Side, and of the reference's where it is given."""
    weights = str(scratch / "weights.pth")

    def plan(path: tuple[Path, ...], trainer: str, config: Path, words: list, pairs: list) -> dict:
        root = Path(tempfile.mkdtemp(dir=scratch))
        write_dataset(root, classes)  # for each side: upstream's loader writes into it
        words = ["--root", root, "--trainer", trainer, "--config-file", config, *words]
        words += ["--dataset-config-file", "configs/datasets/caltech101.yaml", "--no-train"]
        words += ["DATASET.SUBSAMPLE_CLASSES", "all", "DATALOADER.NUM_WORKERS", 0]
        words += [f"TRAINER.{trainer.upper()}.PREC", args.precision, *pairs]
        fixed = {"threads": args.threads, "precision": args.precision, "scratch": str(root)}
        return {"path": [*map(str, path)], "words": [*map(str, words)], **fixed}

    words = ["--backbone", weights, "--debug"]
    found = {OURS: plan((ROOT,), "MMLoP", OUR_CONFIG, words, args.pairs)}
    if args.against:
        path, pairs = (args.against, args.dassl), ["INPUT.SIZE", f"({args.size},{args.size})"]
        other = plan(path, "PromptSRC", THEIR_CONFIG, [], pairs)
        found[REFERENCE] = {**other, "weights": weights}
    return found


def write_weights(backbone: str, path: Path) -> int:
    """Write a CLIP's weights in half precision, as OpenAI has them; return its image size."""
    torch.manual_seed(0)
    model = CLIP(**VIT_B16) if backbone == "random" else load_backbone(backbone).model
    convert_weights(model)
    torch.save(model.state_dict(), path)
    return model.visual.input_resolution


def peak_rate(precision: str, threads: int) -> float:
    """Return the FLOP/s of a large product of matrices, at best."""
    cuda = torch.cuda.is_available()
    dtype = WEIGHT_DTYPES[precision]
    if precision == "amp":
        dtype = torch.float16 if cuda else torch.bfloat16
    size = 8192 if cuda else 2048
    matrix = torch.randn(size, size).to("cuda" if cuda else "cpu", dtype)
    timed = Timer("torch.mm(a, a)", globals={"a": matrix}, num_threads=threads)
    return 2 * size**3 / min(timed.blocked_autorange(min_run_time=1).times)


def class_names(count: int) -> list[str]:
    """Return different names of two tokens each, as most class names have about that many."""
    words = (token[:-4] for token in SimpleTokenizer().encoder if token.endswith("</w>"))
    words = sorted(word for word in words if len(word) > 5 and word.isascii() and word.isalpha())
    return [
        f"{first} {second}" for first, second in zip(words[:count], words[-count:], strict=True)
    ]


def write_dataset(root: Path, classes: int) -> None:
    """Write a Caltech101 of these classes in CoOp's layout, with an image per class and split."""
    folder = root / "caltech-101" / "101_ObjectCategories"
    split: dict[str, list] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(class_names(classes)):
        (folder / name).mkdir(parents=True)
        for part, entries in split.items():
            Image.new("RGB", (8, 8)).save(folder / name / f"{part}.png")
            entries.append([f"{name}/{part}.png", label, name])
    (root / "caltech-101" / "split_zhou_Caltech101.json").write_text(json.dumps(split))


def run(args: argparse.Namespace, scratch: Path) -> dict:
    """Measure everything; --output is written after every part, so that nothing is lost."""
    args.size, records = write_weights(args.backbone, scratch / "weights.pth"), []
    peak = peak_rate(args.precision, args.threads)
    machine = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        **{name: getattr(args, name) for name in ("threads", "precision", "backbone", "pairs")},
        **{"peak": peak, "versions": versions(), "commit": commit()},
    }
    content = {"about": ABOUT, "machine": machine, "repeats": args.repeats}
    for classes in args.classes:
        for found in measure(args, scratch, classes, peak):
            records.append(found)
            logger.info("%d classes: %s", classes, found["what"])
            content["records"] = records
            if args.project:
                sides = (OURS, REFERENCE) if args.against else (OURS,)
                content["projection"] = {name: project(records, name) for name in sides}
            if args.output:
                write_json(content, str(args.output))
    return content


def text(content: Mapping) -> str:
    """Return the figures as tables."""
    tables = [
        f"Hours of training, {name}\n{tabulate(hours.items(), floatfmt=',.1f', missingval='-')}"
        for name, hours in content.get("projection", {}).items()
    ]
    rows = tabulate(map(_row, content["records"]), headers="keys", floatfmt=".4g")
    return "\n\n".join([str(content["machine"]), rows, *tables, content["about"]])


def _row(found: Mapping) -> dict[str, Any]:
    """Return the cells of a record; "other" is the reference, or the seeds together."""
    row = {key: found.get(key) for key in ("what", "classes", "batch", "ratio")}
    row["needed, GFLOP"] = found.get("needed", 0) / 1e9 or None
    other = found.get(REFERENCE, found.get(TOGETHER, {}))
    for name, each in (("ours", found.get(OURS, {})), ("other", other)):
        row[f"{name}, s"] = each.get("seconds", each.get("failed"))
        row[f"{name}, GFLOP"] = each.get("computes", 0) / 1e9 or None
        memory = each.get("memory", {"peak": 0, "before": 0})
        row[f"{name}, MB"] = (memory["peak"] - memory["before"]) / 2**20 or None
    return {**row, "of peak": found.get(OURS, {}).get("share_of_peak")}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        print(text(run(args, Path(scratch))))


if __name__ == "__main__":
    main()
