"""Seeds stepped together: each run comes out as it does alone, and is cut and resumes as alone."""

import json
import re
import signal
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from dassl.utils import latest_checkpoint
from torch.func import vmap

from experiment import cli, multi_seed
from experiment.multi_seed import Member, MultiSeed, is_multi_seed
from experiment.stacked_operations import StackedOperations
from prompting import share_backbones
from trainers.base import PromptTrainer

SEEDS = (1, 2, 3)
# Options under which each method runs on the tiny CLIP, whose towers have 9 layers.
METHODS = {
    "MMLoP": (),
    "CoOp": (),
    "CoCoOp": (),
    "KgCoOp": (),
    "VPT": ("TRAINER.VPT.PROMPT_DEPTH_VISION", "9"),
    "IVLP": (),
    "MaPLe": (),
    "PromptSRC": (),
    "TCP": (),
    "MultiModalAdapter": ("TRAINER.MMADAPTER.ADAPTER_END", "9"),
    "CLIPAdapter": (),
    "TaskRes": (),
    "MMRL": ("TRAINER.MMRL.REP_LAYERS", "[6, 7, 9]"),
}
# Of the norm of what is compared: sums over a stack are rounded in another order (fp32).
TOLERANCE = 3e-5
pytestmark = pytest.mark.filterwarnings("error:There is a performance drop")


@pytest.fixture
def group(words):
    """Members that are built and stand before their first step."""

    def call(trainer, *pairs):
        members = []
        with share_backbones():
            for seed in SEEDS:
                arguments = words(trainer, f"seed{seed}", *pairs, seed=seed)
                args = cli.parse_args(arguments)
                members.append(Member())
                with members[-1].at_work():
                    members[-1].trainer = cli.build(args, cli.setup_cfg(args))
        return members

    return call


@pytest.fixture
def calls(words, tmp_path):
    """The arguments of two runs that differ in their seeds, in folders NAME1 and NAME2."""

    def make(trainer, name, *pairs, resume=False):
        folders = {seed: f"{name}{seed}" for seed in SEEDS[:2]}
        return [
            words(
                trainer,
                folder,
                *pairs,
                seed=seed,
                **{"resume": tmp_path / folder} if resume else {},
            )
            for seed, folder in folders.items()
        ]

    return make


def state_of(folder):
    return torch.load(latest_checkpoint(folder / "prompt_learner"), weights_only=True)


def logged(folder):
    """The values of each step, of a log that shows all."""
    text = "".join(path.read_text() for path in sorted(folder.glob("log.txt*")))
    lines = re.findall(r"^epoch \[.* (loss .*) lr ", text, re.MULTILINE)
    return [[float(number) for number in re.findall(r"\d+\.\d+", line)] for line in lines]


def assert_close(found, expected):
    for key, value in expected.items():
        assert (found[key] - value).norm() <= TOLERANCE * value.norm(), key


def assert_same_run(one, other):
    """The same data in the same order, and the same prompts up to rounding."""
    found, expected = state_of(one), state_of(other)
    assert_close(found["state_dict"], expected["state_dict"])
    assert found["epoch"] == expected["epoch"] and found["batches"] == expected["batches"]
    for name in ("python", "torch"):
        assert str(found["rng"][name]) == str(expected["rng"][name])
    assert all(torch.equal(*pair) for pair in [(s["rng"]["numpy"][1] for s in (found, expected))])


def ends(status, capsys, arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main_multi_seed(arguments)
    assert end.value.code == status
    printed = capsys.readouterr().err.strip()
    assert len(printed.splitlines()) == 1
    return printed


@pytest.mark.parametrize("trainer", METHODS)
def test_one_step_gives_each_seed_its_own_gradients(group, trainer):
    together = MultiSeed(group(trainer, *METHODS[trainer]))
    images, labels = torch.randn(3, 4, 3, 32, 32), torch.randint(0, 4, (3, 4))
    values, gradients = together.compute(images, labels)
    for seed, each in enumerate(together.trainers):
        expected, own = each.compute(images[seed], labels[seed])
        torch.testing.assert_close(values[seed], expected, rtol=1e-5, atol=1e-5)
        assert len(own) == len(gradients) and any(gradient is not None for gradient in own)
        for found, gradient in zip(gradients, own, strict=True):
            assert (found is None) == (gradient is None)
            if gradient is not None:
                assert (found[seed] - gradient).norm() <= TOLERANCE * gradient.norm()


@pytest.mark.parametrize("trainer", METHODS)
def test_seeds_together_are_the_seeds_apart(calls, tmp_path, trainer):
    pairs = ("TRAIN.PRINT_FREQ", "1", "DATALOADER.TRAIN_X.BATCH_SIZE", "4", *METHODS[trainer])
    together = calls(trainer, "together", *pairs)
    cli.main_multi_seed(together)
    for seed, arguments in enumerate(calls(trainer, "apart", *pairs), start=1):
        cli.main(arguments)
        one, other = tmp_path / f"together{seed}", tmp_path / f"apart{seed}"
        assert_same_run(one, other)
        assert len(logged(one)) == 4
        for found, expected in zip(logged(one), logged(other), strict=True):
            assert found == pytest.approx(expected, abs=2e-3)
        found, expected = (json.loads((f / "results.json").read_text()) for f in (one, other))
        assert found.pop("together") == [1, 2]
        assert found.keys() == expected.keys() and found["accuracy"] == expected["accuracy"]
        assert found["command"] == ["train.py", *together[seed - 1]]
        assert {**found["config"], "OUTPUT_DIR": ""} == {**expected["config"], "OUTPUT_DIR": ""}


def test_with_workers_a_step_leaves_the_random_state_alone(calls, tmp_path, monkeypatch):
    """It is swapped where something is drawn or saved, and each run's is what it is alone."""
    pairs = ("DATALOADER.NUM_WORKERS", "1", "DATALOADER.TRAIN_X.BATCH_SIZE", "1")
    swaps = []
    real = multi_seed.set_rng_state
    monkeypatch.setattr(multi_seed, "set_rng_state", lambda state: swaps.append(real(state)))
    cli.main_multi_seed(calls("CoOp", "together", *pairs))
    # Of two runs: the beginning, the end of each of two epochs, and the evaluation.
    assert len(swaps) == 2 * 4
    for seed, arguments in enumerate(calls("CoOp", "apart", *pairs), start=1):
        cli.main(arguments)
        assert_same_run(tmp_path / f"together{seed}", tmp_path / f"apart{seed}")


@pytest.mark.parametrize("precision", ["amp", "bf16"])
def test_other_precisions(group, precision):
    """Their rounding turns a gradient by a tenth; the stack's turns it no further."""
    together = MultiSeed(group("MMLoP", "TRAINER.MMLOP.PREC", precision))
    images, labels = torch.randn(3, 4, 3, 32, 32), torch.randint(0, 4, (3, 4))
    _, gradients = together.compute(images, labels)
    for seed, each in enumerate(together.trainers):
        _, own = each.compute(images[seed], labels[seed])
        for found, gradient in zip(gradients, own, strict=True):
            assert found.dtype == torch.float32
            assert F.cosine_similarity(found[seed].flatten(), gradient.flatten(), dim=0) > 0.95


def test_gradients_are_scaled_by_each_seed_s_own_scaler(group):
    """As with amp on a GPU."""
    together = MultiSeed(group("CoOp"))
    images, labels = torch.randn(3, 4, 3, 32, 32), torch.randint(0, 4, (3, 4))
    (plain,) = together.compute(images, labels)[1]
    factors = (2.0, 64.0, 1024.0)
    for trainer, factor in zip(together.trainers, factors, strict=True):
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=factor)
    (scaled,) = together.compute(images, labels)[1]
    torch.testing.assert_close(scaled, plain * torch.tensor(factors)[:, None, None])


@pytest.mark.parametrize("shape", [None, (4, 6), (5, 1, 4, 6)])
def test_fused_attention_of_all_seeds_at_once(shape):
    """As it runs on a GPU; the mask is one for all seeds."""
    query, key, value = torch.randn(3, 3, 5, 2, 6, 8).requires_grad_().unbind(dim=1)
    query, mask = query[..., :4, :], None if shape is None else torch.randn(shape)

    def attend(*qkv):
        return F.scaled_dot_product_attention(*qkv, attn_mask=mask)

    with StackedOperations():
        found = vmap(attend)(query, key, value)
    expected = torch.stack([attend(*qkv) for qkv in zip(query, key, value, strict=True)])
    torch.testing.assert_close(found, expected)
    gradients = (
        torch.autograd.grad(x.square().sum(), key, retain_graph=True)[0] for x in (found, expected)
    )
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("function", [F.linear, lambda x, w, b: torch.addmm(b, x, w.T, alpha=1.5)])
def test_matrix_products_of_all_seeds_at_once(function, frozen):
    """With a matrix that all share, and with one for each."""
    stack = torch.randn(3, 4, 5).requires_grad_()
    matrix = [torch.randn(shape if frozen else (3, *shape)) for shape in ((6, 5), (6,))]
    dims = (0, None, None) if frozen else (0, 0, 0)
    with StackedOperations():
        found = vmap(function, in_dims=dims)(stack, *matrix)
    own = [matrix] * 3 if frozen else list(zip(*matrix, strict=True))
    expected = torch.stack([function(x, *m) for x, m in zip(stack, own, strict=True)])
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(x.square().sum(), stack)[0] for x in (found, expected))
    torch.testing.assert_close(*gradients)


def test_the_backbone_is_shared_and_only_within(group):
    one, other, _ = (member.trainer for member in group("CoOp"))
    assert one.backbone is other.backbone
    assert group("CoOp", "DATASET.NUM_SHOTS", "1")[0].trainer.backbone is not one.backbone


def test_methods_that_can():
    assert all(map(is_multi_seed, METHODS))
    assert not any(map(is_multi_seed, ("ProGrad", "ZeroshotCLIP", "ZeroshotCLIP2")))


# How they end


def interrupt(monkeypatch, number):
    """A signal in the `number`-th update: of two seeds the even ones are the second's."""
    real, updates = PromptTrainer.update, []

    def sending(self, *args):
        updates.append(1)
        if len(updates) == number:
            signal.raise_signal(signal.SIGTERM)
        return real(self, *args)

    monkeypatch.setattr(PromptTrainer, "update", sending)


@pytest.mark.parametrize("trainer", ["MMLoP", "PromptSRC"])
def test_a_signal_stops_all_at_the_same_step(
    calls, same_end, tmp_path, monkeypatch, capsys, trainer
):
    """Whosever update it comes in, all finish the next step. They resume together, to the same
    bits, or apart."""
    cli.main_multi_seed(calls(trainer, "whole"))
    for name, number in (("cut", 11), ("apart", 12)):
        with monkeypatch.context() as patch:
            interrupt(patch, number)
            assert ends(4, capsys, calls(trainer, name)) == "train.py: Stopped by SIGTERM."
        for folder in (tmp_path / f"{name}1", tmp_path / f"{name}2"):
            assert latest_checkpoint(folder / "prompt_learner").name == "model.pth.tar-1-3"
    cli.main_multi_seed(calls(trainer, "cut", resume=True))
    for arguments in calls(trainer, "apart", resume=True):
        cli.main(arguments)
    for seed in ("1", "2"):
        same_end(tmp_path / f"whole{seed}", tmp_path / f"cut{seed}")
        assert_same_run(tmp_path / f"apart{seed}", tmp_path / f"whole{seed}")


def test_single_runs_go_on_together(calls, tmp_path, monkeypatch):
    cli.main_multi_seed(calls("CoOp", "whole"))
    for arguments in calls("CoOp", "cut"):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            interrupt(patch, 3)
            cli.main(arguments)
    cli.main_multi_seed(calls("CoOp", "cut", resume=True))
    for seed in ("1", "2"):
        assert_same_run(tmp_path / f"cut{seed}", tmp_path / f"whole{seed}")


def test_a_signal_in_the_final_evaluations(calls, tmp_path, monkeypatch, capsys):
    """The second seed's is left at once; the first one's results are there."""
    real = PromptTrainer.test

    def sending(self, split=None):
        if self.cfg.SEED == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(self, split)

    with monkeypatch.context() as patch:
        patch.setattr(PromptTrainer, "test", sending)
        ends(4, capsys, calls("CoOp", "cut"))
    assert [(tmp_path / f"cut{s}" / "results.json").exists() for s in (1, 2)] == [True, False]
    assert latest_checkpoint(tmp_path / "cut2" / "prompt_learner").name == "model.pth.tar-2"


def test_a_loss_that_is_no_number_ends_the_group(calls, tmp_path, monkeypatch, capsys):
    """The message names the seed; the other saved that very step, and ends alone as it should."""
    real = PromptTrainer.update_lr

    def spoil(self, *args):
        real(self, *args)
        if self.cfg.SEED == 2:
            self.trainable_params[0].data.fill_(float("nan"))

    with monkeypatch.context() as patch:
        patch.setattr(PromptTrainer, "update_lr", spoil)
        patch.setattr("dassl.engine.base._check_finite", lambda *_: None)
        printed = ends(3, capsys, calls("CoOp", "cut"))
    assert printed.startswith("train.py: Seed 2: Loss is infinite or NaN") and "batch 1" in printed
    names = [latest_checkpoint(tmp_path / f"cut{s}" / "prompt_learner").name for s in (1, 2)]
    assert names == ["model.pth.tar-1-1", "model.pth.tar-1"]
    cli.main(calls("CoOp", "cut", resume=True)[0])
    cli.main(calls("CoOp", "apart")[0])
    assert_same_run(tmp_path / "cut1", tmp_path / "apart1")


# What is refused


def refused(calls, capsys):
    printed = ends(2, capsys, calls)
    return printed.removeprefix("train.py: ")


def test_what_cannot_go_together_is_refused_before_anything_is_loaded(calls, tmp_path, capsys):
    assert refused(calls("ProGrad", "a"), capsys) == (
        "Seeds of ProGrad cannot be stepped together, since it does not simply follow the gradient "
        "of its loss: train them separately."
    )
    one, other = calls("CoOp", "a")
    assert refused([one, [*other, "OPTIM.LR", "0.5"]], capsys) == (
        "Runs that are stepped together differ in nothing but their seeds; these have OPTIM.LR "
        "0.002, 0.5: train them separately."
    )
    assert not (tmp_path / "a1").exists()


def test_different_steps_are_refused(calls, monkeypatch, capsys):
    """One is at the beginning of its second epoch, the other within its first."""
    for arguments, number in zip(calls("CoOp", "a"), (5, 2), strict=True):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            interrupt(patch, number)
            cli.main(arguments)
    assert "resume from different steps (1 epochs and 1 batches; 0 epochs and 2 batches), and" in (
        ends(1, capsys, calls("CoOp", "a", resume=True))
    )


def test_different_numbers_of_images_are_refused(group):
    members = group("CoOp")
    members[1].trainer.dm = SimpleNamespace(
        dataset=SimpleNamespace(
            train_x=members[1].trainer.dm.dataset.train_x[:-1],
            classnames=members[1].trainer.dm.dataset.classnames,
        )
    )
    with pytest.raises(ValueError, match=r"^Seeds 1, 2, 3 have different numbers of training imag"):
        MultiSeed(members)
