"""Steps by a recorded graph. CUDA records what runs; here a stand-in runs the function again, on
the memory that a graph would read, into the memory that it would write."""

import logging

import pytest
import torch

from prompting.cuda_graph import CUDAGraphStep


class Recorded(CUDAGraphStep):
    """Records on a CPU."""

    def suits(self, inputs):
        return True

    def record(self, function):
        values, rest = function(*self.inputs)
        self.outputs = values.clone(), [None if r is None else r.clone() for r in rest]
        return lambda: self.again(function)

    def again(self, function):
        values, rest = function(*self.inputs)
        self.outputs[0].copy_(values)
        for memory, new in zip(self.outputs[1], rest, strict=True):
            if memory is not None:
                memory.copy_(new)


class Calls:
    """A function with two inputs that counts how often it is called itself."""

    def __init__(self):
        self.weight, self.count = torch.tensor([1.0, 2.0]), 0

    def __call__(self, x, y):
        self.count += 1
        return self.weight * x.sum(), [x * y.sum(), None]


@pytest.fixture
def warnings(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dassl"), "propagate", True)
    caplog.set_level(logging.INFO, "dassl")
    return caplog


def test_a_graph_gives_what_the_function_gives():
    function, x, y = Calls(), torch.randn(3), torch.randn(2)
    step = Recorded()
    for _ in range(3):
        x, y = torch.randn(3), torch.randn(2)
        values, (first, nothing) = step(function, x, y)
        assert torch.equal(values, function.weight * x.sum())
        assert torch.equal(first, x * y.sum())
        assert nothing is None
        function.weight += 1  # in place, as an optimiser does


def test_results_lie_in_the_same_memory():
    function, step = Calls(), Recorded()
    step(function, torch.ones(3), torch.ones(2))
    one, other = (
        step(function, torch.ones(3), torch.ones(2)),
        step(function, torch.zeros(3), torch.ones(2)),
    )
    assert one[0].data_ptr() == other[0].data_ptr()


def test_another_shape_goes_through_the_function():
    function = Calls()
    step = Recorded()
    step(function, torch.ones(3), torch.ones(2))
    values, _ = step(function, torch.ones(5), torch.ones(2))
    assert torch.equal(values, function.weight * 5)
    assert torch.equal(step(function, torch.ones(3), torch.ones(2))[0], function.weight * 3)


def test_what_cannot_be_recorded_runs_as_it_is(warnings):
    class Refuses(Recorded):
        def record(self, function):
            raise RuntimeError("operation not permitted when stream is capturing\nat some place")

    function, step = Calls(), Refuses()
    for scale in (1.0, 2.0):
        assert torch.equal(
            step(function, scale * torch.ones(3), torch.ones(2))[0],
            scale * torch.tensor([3.0, 6.0]),
        )
    assert (
        "not run as a CUDA graph: operation not permitted when stream is capturing" in warnings.text
    )
    assert warnings.text.count("CUDA graph") == 1


def test_a_graph_that_computes_something_else_is_not_used(warnings):
    class Wrong(Recorded):
        def again(self, function):
            super().again(function)
            self.outputs[1][0].mul_(1.1)

    function, step = Calls(), Wrong()
    for _ in range(2):
        _, (found, _) = step(function, torch.ones(3), torch.ones(2))
        assert torch.equal(found, torch.full((3,), 2.0))
    assert "its results differ by 1.0e-01" in warnings.text


def test_on_a_cpu_nothing_is_recorded():
    function = Calls()
    step = CUDAGraphStep()
    step(function, torch.ones(3), torch.ones(2))
    assert step.inputs is None and function.count == 1


def test_switched_off_it_calls_the_function():
    function, step = Calls(), Recorded(enabled=False)
    for _ in range(2):
        step(function, torch.ones(3), torch.ones(2))
    assert step.inputs is None and function.count == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cuda_graph_gives_what_the_function_gives(warnings):
    function = Calls()
    function.weight = function.weight.cuda()
    step = CUDAGraphStep()
    for _ in range(3):
        x, y = torch.randn(3).cuda(), torch.randn(2).cuda()
        values, (first, _) = step(function, x, y)
        torch.testing.assert_close(values, function.weight * x.sum())
        torch.testing.assert_close(first, x * y.sum())
    assert step.replay is not None


@pytest.mark.parametrize("trainer", ["MMLoP", "PromptSRC", "ProGrad"])
def test_a_run_by_graph_learns_the_same_prompts(run, tmp_path, monkeypatch, trainer):
    pairs = ("TRAINER.COOP.N_CTX", "4") if trainer == "ProGrad" else ()
    plain = run(trainer, "plain", *pairs)
    monkeypatch.setattr("trainers.base.CUDAGraphStep", Recorded)
    graph = run(trainer, "graph", *pairs)
    assert graph["accuracy"] == plain["accuracy"]
    one, other = (
        torch.load(tmp_path / name / "prompt_learner" / "model.pth.tar-2", weights_only=True)
        for name in ("plain", "graph")
    )
    for key, value in one["state_dict"].items():
        assert torch.equal(other["state_dict"][key], value), key
