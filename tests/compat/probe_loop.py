"""Asks an original that is a loop over loaders, not a Dassl trainer, for its first step.

    python probe_loop.py QUESTION.json

Its own function trains, on one batch, and is stopped in its first step. What it asked of PyTorch is
recorded on the way: the logits and the loss of its cross entropy, and the gradients that its
optimiser was to follow. QUESTION and ANSWER are those of probe.py; parameters start at the
original's own values, with noise on them.
"""

import contextlib
import importlib
import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent))
from world import NAMES

BATCH = 4


class Stepped(Exception):
    """The first step was reached."""


class Recorder:
    """Listens to the loss and the optimiser of whatever trains meanwhile.

    Args:
        steps: which step of the optimiser counts; the others are left out.
    """

    def __init__(self, steps: int = 1) -> None:
        self.loss = self.logits = None
        self.values: dict[int, Tensor] = {}
        self.gradients: dict[int, Tensor] = {}
        self.steps = steps
        self.noise = torch.Generator().manual_seed(0)
        self._cross_entropy = F.cross_entropy
        F.cross_entropy = self.cross_entropy
        for optimizer in (torch.optim.AdamW, torch.optim.SGD):
            self.listen(optimizer)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.loss, self.logits = self._cross_entropy(logits, labels), logits.detach()
        return self.loss

    def listen(self, optimizer: type) -> None:
        begin = optimizer.__init__

        def init(own, parameters, *rest, **options) -> None:
            begin(own, parameters, *rest, **options)
            for parameter in self.parameters(own):
                noise = torch.randn(parameter.shape, generator=self.noise) * 0.05
                parameter.data += noise.to(parameter.dtype)
                self.values[id(parameter)] = parameter.detach().clone()

        def step(own, *_, **__) -> None:
            self.steps -= 1
            if not self.steps:
                self.gradients = {id(p): p.grad for p in self.parameters(own)}
                raise Stepped

        optimizer.__init__, optimizer.step = init, step

    @staticmethod
    def parameters(optimizer) -> list[Tensor]:
        found = [p for group in optimizer.param_groups for p in group["params"]]
        return [p for p in found if p.requires_grad]

    def answer(self, named: dict[str, Tensor]) -> dict:
        """What probe.py answers, of these tensors by name."""
        keys = {name: id(value) for name, value in named.items()}
        found = self.gradients
        return {
            "parameters": {n: self.values[key] for n, key in keys.items() if key in self.values},
            "scores": self.logits,
            "gradients": {n: found[key] for n, key in keys.items() if found.get(key) is not None},
            "log": {"loss": self.loss.item()},
        }


def stay_on_cpu() -> None:
    """Without a GPU `.to("cuda")` leaves a tensor where it is."""
    if torch.cuda.is_available():
        return
    print('shim: .to("cuda") stays on the CPU')
    to = torch.Tensor.to
    torch.Tensor.to = lambda self, *a, **k: self if "cuda" in a else to(self, *a, **k)


def load_model() -> nn.Module:
    """The tiny CLIP, by the checkout's own package."""
    module = importlib.import_module("clip.clip")
    state = torch.load(module._download("ViT-B/16"), weights_only=True)
    return importlib.import_module("clip.model").build_model(state).float().eval()


def without_accuracy(module: str) -> None:
    """Replace what makes a number of a numpy array, which numpy 2.4 refuses."""
    print("shim: no cls_acc")
    importlib.import_module(module).cls_acc = lambda *_, **__: 0.0


def clip_lora(recorder: Recorder, model: nn.Module, batch: tuple) -> dict[str, Tensor]:
    run_lora = importlib.import_module("lora").run_lora
    without_accuracy("lora")
    args = Namespace(encoder="both", position="all", backbone="ViT-B/16", params=["q", "k", "v"])
    # At a rate of 0 the original subtracts the updates from weights that the gradients need.
    vars(args).update(r=2, alpha=1, dropout_rate=1e-12, lr=1e-3, n_iters=1, shots=1)
    vars(args).update(eval_only=False, save_path=None)
    dataset = Namespace(classnames=list(NAMES), template=["a photo of a {}."])
    try:
        run_lora(args, model, 100, dataset, [batch], [batch], [batch])
    except Stepped:
        return dict(model.named_parameters())


def tip_adapter(recorder: Recorder, model: nn.Module, batch: tuple) -> dict[str, Tensor]:
    """With a cache of two other images of each class, as the data set of ours has two shots."""
    main = importlib.import_module("main")
    without_accuracy("main")
    cfg = {"lr": 1e-3, "train_epoch": 1, "init_alpha": 1.17, "init_beta": 1.0, "shots": 1}
    cfg |= {"augment_epoch": 1, "load_cache": False, "cache_dir": tempfile.mkdtemp()}
    text = main.clip_classifier(NAMES, ["a photo of a {}."], model)
    shots = torch.randn(2 * len(NAMES), *batch[0].shape[1:]), torch.arange(2 * len(NAMES)) // 2
    keys, values = main.build_cache_model(cfg, model, [shots])
    test = keys.t(), shots[1]
    linear, adapters = nn.Linear.__init__, []

    def kept(own, *rest, **options) -> None:
        linear(own, *rest, **options)
        adapters.append(own)

    nn.Linear.__init__ = kept
    try:
        main.run_tip_adapter_F(cfg, keys, values.float(), *test, *test, text, model, [batch])
    except Stepped:
        return {"keys": adapters[0].weight}


def step(model: nn.Module, parameters: nn.Module, batch: tuple) -> dict[str, Tensor]:
    """What the family's `forward_backward` does, of a model without the rest of its code base."""
    optimizer = torch.optim.SGD(parameters.parameters(), lr=1e-3)
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    with contextlib.suppress(Stepped):
        optimizer.step()
    return dict(parameters.named_parameters())


def clip_adapter(recorder: Recorder, model: nn.Module, batch: tuple) -> dict[str, Tensor]:
    module = importlib.import_module("clip_adapter")
    cfg = Namespace(DATASET=Namespace(NAME="Caltech101"))
    model = module.CustomCLIP(cfg, NAMES, model.requires_grad_(False))
    return step(model, model.adapter.requires_grad_(), batch)


def lp_plus_plus(recorder: Recorder, model: nn.Module, batch: tuple) -> dict[str, Tensor]:
    module = importlib.import_module("methods.linear_probe_p2")
    utils = importlib.import_module("methods.utils")
    text = importlib.import_module("utils").clip_classifier(NAMES, ["a photo of a {}."], model)
    one_hot, variable, linear, kept = utils.get_one_hot, module.Variable, nn.Linear.__init__, {}
    utils.get_one_hot = lambda *a, **k: one_hot(*a, **k).float()
    print("shim: one-hot labels keep fp32")

    def keep(own, *rest, **options) -> None:
        linear(own, *rest, **options)
        kept["probe"] = own

    def keep_alpha(*rest, **options) -> Tensor:
        kept["alpha"] = variable(*rest, **options)
        return kept["alpha"]

    nn.Linear.__init__, module.Variable = keep, keep_alpha
    args = {"train_epoch": 1, "shots": 1, "dataset": "", "output_dir": ""}
    with contextlib.suppress(Stepped):
        module.LinearProbe_P2(args)([batch], [batch], *batch, text, model, NAMES)
    probe, alpha = kept["probe"], kept["alpha"]
    recorder.values[id(alpha)], recorder.gradients[id(alpha)] = alpha.detach(), alpha.grad
    return {"weight": probe.weight, "bias": probe.bias, "alpha": alpha}


def two_stage(recorder: Recorder, model: nn.Module, batch: tuple) -> dict[str, Tensor]:
    """Without a first stage its second one has the layer norms that were to be trained."""
    module = importlib.import_module("fs.twostage")
    without_accuracy("fs.twostage")
    first = float(recorder.options[recorder.options.index("TRAINER.TWOSTAGE.FIRST_STAGE") + 1])
    args = Namespace(peft="ln", ln_modality="both", ln_vision_start=0, ln_text_start=0, lr=1e-3)
    vars(args).update(wd=1e-2, n_iters=10, shots=1, n_iters_frac=first, debug=False)
    dataset = Namespace(classnames=list(NAMES), template=["a photo of a {}."])
    rows = torch.zeros(len(NAMES), model.text_projection.shape[1])
    begin, kept = module.SingleStreamClassifier.__init__, {"classifier": rows}
    recorder.values[id(rows)] = rows

    def keep(own, *rest, **options) -> None:
        begin(own, *rest, **options)
        kept["classifier"] = own.classifier

    module.SingleStreamClassifier.__init__ = keep
    with contextlib.suppress(Stepped):
        module.run_twostage(args, model, 100, dataset, [batch], [batch], [batch])
    return {**dict(model.named_parameters()), **kept}


LOOPS = {
    "TwoStage": two_stage,
    "CLIPLoRA": clip_lora,
    "TipAdapterF": tip_adapter,
    "CLIPAdapter": clip_adapter,
    "LPPlusPlus": lp_plus_plus,
}


def main(question: dict) -> None:
    settings = question["settings"]
    sys.path.insert(0, ".")
    torch.manual_seed(0)
    stay_on_cpu()
    model = load_model()
    generator = torch.Generator().manual_seed(1)
    side = model.visual.input_resolution
    images = torch.randn(BATCH, 3, side, side, generator=generator)
    batch = images, torch.arange(BATCH) % len(NAMES)
    recorder = Recorder()
    recorder.options = settings["opts"]
    named = LOOPS[settings["trainer"]](recorder, model, batch)
    torch.save(recorder.answer(named), question["answer"])


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        main(json.load(file))
