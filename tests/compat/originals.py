"""Compare our trainers with the original code of their methods, on your own checkouts.

    python tests/compat/originals.py --coop CoOp --maple multimodal-prompt-learning \
        --promptsrc PromptSRC --coprompt CoPrompt --kgcoop KgCoOp --prograd Prompt-align \
        --tcp Textual-based_Class-aware_prompt_tuning --mma VLM-MultiModalAdapter --lora CLIP-LoRA \
        --clip_adapter CLIP-Adapter --tip Tip-Adapter --taskres TaskRes \
        --lp_plus_plus FewShot-CLIP-Strong-Baseline --mmrl MMRL \
        --two_stage rethinking_fewshot_vlms

Both are built by their own train.py on the same tiny random weights in fp32, get the same
parameters, and see the same batch. One line per method gives the largest differences of the logits,
of the loss, and of the gradients (relative to the largest gradient); the exit status is 1 where
one is above 1e-4. Nothing in the checkouts is changed, and nothing is downloaded.
"""

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from bench import ENGINE, OURS, Bench, Failed, Place, documented, parse_checkouts, report
from methods import DESCRIPTIONS, METHODS, SIZES, Method
from torch import Tensor
from wording import TEMPLATES, check_templates
from world import clip_state, write_dataset

PROBE = Path(__file__).with_name("probe.py")
LOOP_PROBE = Path(__file__).with_name("probe_loop.py")  # of originals that are no Dassl trainers
TOLERANCE = 1e-4
CHECKOUTS = {
    "coop": ("KaiyangZhou/CoOp", "trainers/coop.py"),
    "kgcoop": ("htyao89/KgCoOp", "KgCoOp/trainers/kgcoop.py"),
    "prograd": ("BeierZhu/Prompt-align", "ProGrad.public/trainers/prograd.py"),
    "maple": ("muzairkhattak/multimodal-prompt-learning", "trainers/maple.py"),
    "promptsrc": ("muzairkhattak/PromptSRC", "trainers/promptsrc.py"),
    "coprompt": ("ShuvenduRoy/CoPrompt", "trainers/coprompt.py"),
    "tcp": ("htyao89/Textual-based_Class-aware_prompt_tuning", "trainers/tcp.py"),
    "mma": ("ZjjConan/VLM-MultiModalAdapter", "trainers/mmadapter.py"),
    "lora": ("MaxZanella/CLIP-LoRA", "lora.py"),
    "clip_adapter": ("gaopengcuhk/CLIP-Adapter", "clip_adapter.py"),
    "mmrl": ("yunncheng/MMRL", "trainers/mmrl.py"),
    "two_stage": ("FarinaMatteo/rethinking_fewshot_vlms", "fs/twostage.py"),
    "lp_plus_plus": (
        "FereshteShakeri/FewShot-CLIP-Strong-Baseline",
        "methods/linear_probe_p2.py",
    ),
    "taskres": ("geekyutao/TaskRes", "trainers/taskres.py"),
    "tip": ("gaopengcuhk/Tip-Adapter", "main.py"),
}
# The family's code rounds prompts to half precision whatever PREC says; here both are in single.
SINGLE = """
import torch
torch.Tensor.half = torch.nn.Module.half = lambda self: self
print("shim: half() keeps fp32")
"""
# TaskRes imports what Python had up to 3.12, and leaves the underscores in class names.
TASKRES = """
import re
from clip import clip
re.template, tokenize = None, clip.tokenize
clip.tokenize = lambda texts: tokenize([text.replace("_", " ") for text in texts])
print("shim: underscores are spaces")
"""
# CoPrompt draws one of fifty sentences, and keeps the features of all in its folder.
COPROMPT = f"""
import json, os, torch
def kept(call):
    return lambda *args, **more: None if "cache/" in str(args) else call(*args, **more)
load, os.makedirs, torch.save = json.load, kept(os.makedirs), kept(torch.save)
json.load = lambda file: load(open({str(DESCRIPTIONS)!r}) if "gpt_file" in file.name else file)
print("shim: one sentence per class")
"""
SIDE = 32
SHOTS = ("DATASET.NUM_SHOTS", "2", "INPUT.SIZE", f"({SIDE}, {SIDE})")


class Comparison:
    """Runs both sides of a method, in processes of their own."""

    def __init__(self, scratch: Path) -> None:
        self.bench = Bench(scratch)
        self.weights = {}
        for name, sizes in SIZES.items():
            self.weights[name] = scratch / f"{name}.pth"
            state = clip_state(**{"joint": 64, "patch": 8, "side": SIDE, **sizes})
            torch.save(state, self.weights[name])

    def run(self, method: Method, place: Place) -> str:
        """Return the differences; raise Failed where one is too large."""
        configs = OURS if method.loop else place.folder
        theirs, shims = self.ask(method, place, configs, "")
        folder = self.bench.folder()
        torch.save(method.convert(theirs["parameters"]), folder / "parameters.pth")
        home = Place(OURS, ENGINE)
        ours, _ = self.ask(method, home, configs, str(folder / "parameters.pth"))
        found = {"logits": _largest(ours["scores"] - theirs["scores"])}
        if theirs["log"]:
            found["loss"] = max(
                abs(theirs["log"][their] - ours["log"][our]) for their, our in method.losses.items()
            )
            found["gradients"] = max(
                _largest(ours["gradients"][name] - value) / _largest(value)
                for name, value in method.convert(theirs["gradients"]).items()
            )
        report = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
        if not max(found.values()) < TOLERANCE:
            raise Failed(report)
        return f"{report} [{'; '.join(shims)}]"

    def ask(
        self, method: Method, place: Place, configs: Path, parameters: str
    ) -> tuple[dict, list[str]]:
        """probe.py's answer, and what was put in from outside."""
        own, config = method.theirs, method.config
        if place.folder == OURS:
            own, config = method.ours, method.own_config or config
            configs = OURS if method.own_config else configs
        folder = self.bench.folder()
        write_dataset(folder / "data")
        settings = {
            "root": str(folder / "data"),
            "output_dir": str(folder / "output"),
            "seed": 1,
            "trainer": method.trainer,
            "backbone": "ViT-B/16",
            "enhanced_base": "none",  # of TaskRes
            "train_epoch": 0,  # of MMRL
            "config_file": str(configs / "configs" / "trainers" / config),
            "dataset_config_file": "configs/datasets/caltech101.yaml",
            "opts": [*method.options, *own, *SHOTS],
        }
        question = {
            "settings": settings,
            "parameters": parameters,
            "answer": str(folder / "answer.pth"),
        }
        (folder / "question.json").write_text(json.dumps(question))
        runs = [[str(folder / "question.json")]]
        weights = str(self.weights[method.sizes])
        probe = LOOP_PROBE if method.loop and place.folder != OURS else PROBE
        log = self.bench.launch(place, str(probe), runs, folder, weights)
        answer = torch.load(folder / "answer.pth", weights_only=True)
        return answer, re.findall(r"^shim: (.*)$", log, re.MULTILINE)


def _largest(values: Tensor) -> float:
    return values.abs().max().item()


def place_of(name: str, checkout: Path) -> Place:
    """KgCoOp and ProGrad lie in a folder of their repository, next to the Dassl of ProGrad."""
    folder = {"kgcoop": "KgCoOp", "prograd": "ProGrad.public"}.get(name, "")
    engine = checkout / "Dassl.ProGrad.pytorch" if name == "prograd" else ENGINE
    before = documented("MMLoP on Dassl.pytorch") if name == "prograd" else ""
    own = {"taskres": TASKRES, "coprompt": COPROMPT}.get(name, "")
    return Place(checkout / folder, engine, before + SINGLE + own)


def checks(
    comparison: Comparison, given: dict[str, Path]
) -> Iterator[tuple[str, Callable[[], str]]]:
    """What there is to compare with these checkouts: a label, and a function that does it."""
    for name, path in given.items():
        place = place_of(name, path)
        for method in METHODS[name]:
            yield method.label, partial(comparison.run, method, place)
        for source in TEMPLATES.get(name, ()):
            yield source.label, partial(check_templates, source, place.folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all comparisons; returns the exit status."""
    given = parse_checkouts(__doc__, CHECKOUTS, argv)
    with tempfile.TemporaryDirectory() as scratch:
        return report(checks(Comparison(Path(scratch)), given))


if __name__ == "__main__":
    sys.exit(main())
