"""Steps by a recorded graph. CUDA records what runs; here a stand-in runs the function again, on
the memory that a graph would read, into the memory that it would write."""

import gc
import logging
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from prompting.cuda_graph import CUDAGraphStep


class Recorded(CUDAGraphStep):
    """Records on a CPU."""

    def suits(self, inputs):
        return True

    def record(self, function):
        self.records = getattr(self, "records", 0) + 1
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
    assert "its results differ by 1.0e-01, two steps by 0.0e+00" in warnings.text
    assert not step.used and step.reason in warnings.text


class Loss(Calls):
    """Loss 0.1 and an accuracy of 100, as a log's values."""

    loss = 0.1

    def __call__(self, x, y):
        self.count += 1
        return torch.tensor([self.loss, 100.0]), [x * y.sum(), None]


def test_an_accuracy_hides_no_loss(warnings):
    class Wrong(Recorded):
        def again(self, function):
            super().again(function)
            self.outputs[0][0] += 0.02

    step = Wrong()
    step(Loss(), torch.ones(3), torch.ones(2))
    assert not step.used and "its results differ by 2.0e-01" in step.reason


def test_a_graph_may_differ_as_much_as_two_steps_do():
    """Fused attention adds up in an order that differs from call to call."""

    class Noisy(Calls):
        def __call__(self, x, y):
            self.count += 1
            return self.weight * x.sum(), [(1 + 0.02 * (self.count % 2)) * x * y.sum(), None]

    class Recording(Recorded):
        factor = 1.04

        def again(self, function):
            super().again(function)
            self.outputs[1][0].copy_(self.factor * torch.full((3,), 2.0))

    for factor, used in ((1.04, True), (0.9, False)):
        step = Recording()
        step.factor = factor
        step(Noisy(), torch.ones(3), torch.ones(2))
        assert step.used is used


def test_noise_proves_nothing():
    """Where two steps have nothing in common, neither has a graph to be compared with them."""

    class Random(Calls):
        def __call__(self, x, y):
            return self.weight * x.sum(), [torch.randn(3), None]

    step = Recorded()
    step(Random(), torch.ones(3), torch.ones(2))
    assert not step.used


def test_a_step_that_overflows_is_recorded_later(warnings):
    """With amp the scaler begins too high: the first gradients are infinite, and inf - inf NaN."""
    step, function = Recorded(), Calls()
    for scale in (float("inf"), float("nan")):
        step(function, torch.full((3,), scale), torch.ones(2))
        assert step.replay is None and not step.used
    assert step.reason == "no step had finite gradients" and not warnings.text
    step(function, torch.ones(3), torch.ones(2))
    assert step.used and step.records == 1
    overflow, _ = step(function, torch.full((3,), float("inf")), torch.ones(2))
    assert torch.isinf(overflow).all()  # later ones go through the graph


def test_freed_it_holds_nothing_and_says_that_it_was_used():
    step, function = Recorded(), Calls()
    step(function, torch.ones(3), torch.ones(2))
    step.free()
    assert step.inputs is step.outputs is step.replay is None and step.used
    step(function, torch.ones(3), torch.ones(2))
    assert step.records == 2


def test_an_error_without_a_message(warnings):
    class Refuses(Recorded):
        def record(self, function):
            raise RuntimeError

    step = Refuses()
    assert torch.equal(step(Calls(), torch.ones(3), torch.ones(2))[0], torch.tensor([3.0, 6.0]))
    assert step.reason == "RuntimeError" and "graph: RuntimeError" in warnings.text


class CUDA:
    """Stands for torch.cuda: notes what happens, and on which stream."""

    def __init__(self, monkeypatch, capture_ends=True):
        self.current, self.streams, self.events = "main", 0, []
        self.capture_ends = capture_ends
        for name in ("Stream", "stream", "current_stream", "CUDAGraph", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(gc, "collect", lambda: self.events.append("collect"))

    def Stream(self):
        self.streams += 1
        return SimpleNamespace(name=f"own {self.streams}", wait_stream=lambda other: None)

    def current_stream(self):
        return SimpleNamespace(name=self.current, wait_stream=lambda other: None)

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    def CUDAGraph(self):
        return SimpleNamespace(replay=lambda: self.events.append("replay"))

    @contextmanager
    def graph(self, graph, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        self.current = stream.name
        self.events.append(f"capture on {stream.name}")
        yield
        if not self.capture_ends:  # as PyTorch did it for long: the stream stays the current one
            raise RuntimeError("capture failed")
        self.current = "own"


class OnCUDA(CUDAGraphStep):
    def suits(self, inputs):
        return True


def test_each_graph_has_a_stream_of_its_own_and_no_garbage_before_it(monkeypatch):
    cuda = CUDA(monkeypatch)
    for _ in range(2):
        step, function = OnCUDA(), Calls()
        step(function, torch.ones(3), torch.ones(2))
        assert step.used
    assert cuda.events == [
        "collect", "capture on own 1", "replay", "collect", "capture on own 2", "replay",
    ]  # fmt: skip
    assert cuda.current == "main"


def test_a_capture_that_fails_leaves_the_stream_as_it_was(monkeypatch):
    cuda = CUDA(monkeypatch, capture_ends=False)
    step = OnCUDA()
    found, _ = step(Calls(), torch.ones(3), torch.ones(2))
    assert torch.equal(found, torch.tensor([3.0, 6.0]))
    assert cuda.current == "main" and step.reason == "capture failed"


def test_on_a_cpu_nothing_is_recorded():
    function = Calls()
    step = CUDAGraphStep()
    step(function, torch.ones(3), torch.ones(2))
    assert step.inputs is None and function.count == 1 and step.reason == "not on a GPU"


def test_switched_off_it_calls_the_function():
    function, step = Calls(), Recorded(enabled=False)
    for _ in range(2):
        step(function, torch.ones(3), torch.ones(2))
    assert step.inputs is None and function.count == 2


@pytest.mark.parametrize("trainer", ["MMLoP", "PromptSRC", "ProGrad"])
def test_a_run_by_graph_learns_the_same_prompts(run, tmp_path, monkeypatch, trainer):
    pairs = ("TRAINER.COOP.N_CTX", "4") if trainer == "ProGrad" else ()
    plain = run(trainer, "plain", *pairs)
    monkeypatch.setattr("trainers.base.CUDAGraphStep", Recorded)
    graph = run(trainer, "graph", *pairs)
    assert graph["accuracy"] == plain["accuracy"]
    assert plain["cuda_graph"] == {"used": False, "reason": "not on a GPU"}
    assert graph["cuda_graph"] == {"used": True, "reason": ""}
    one, other = (
        torch.load(tmp_path / name / "prompt_learner" / "model.pth.tar-2", weights_only=True)
        for name in ("plain", "graph")
    )
    for key, value in one["state_dict"].items():
        assert torch.equal(other["state_dict"][key], value), key


def test_the_evaluation_has_the_graph_s_memory(run, monkeypatch):
    held = []

    class Watched(Recorded):
        def free(self):
            held.append(self.replay is not None)
            super().free()

    def test(self, split=None):
        assert held == [True] and self._graph.replay is None
        assert all(p.grad is None for p in self.trainable_params)

    monkeypatch.setattr("trainers.base.CUDAGraphStep", Watched)
    monkeypatch.setattr("trainers.base.PromptTrainer.test", test)
    run("MMLoP", "run", "OPTIM.MAX_EPOCH", "1")
    assert held == [True]
