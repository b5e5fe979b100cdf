"""Measure the speed and memory of a step."""

import time

import torch
from torch.profiler import ProfilerActivity, profile

from benchmark.gpu.machine import Check, Checks, Machine, images_for
from prompting.cuda_graph import CUDAGraphStep
from trainers.base import PromptTrainer
from trainers.results import peak_memory

WARM_UP = 10  # steps: libraries choose, amp finds its scale, a graph is recorded


def speed(machine: Machine) -> Checks:
    """Time steps by classes and precision, eager and by graph; count the kernels they launch."""
    steps = 50 if machine.on_gpu else 2
    for classes in (50, 500) if machine.on_gpu else (5,):
        for precision in machine.precisions:
            trainer, seconds = machine.build("MMLoP", precision, classes), {}
            kernels = 0
            for by_graph in (False, True) if machine.on_gpu else (False,):
                trainer._graph.free()
                trainer._graph = CUDAGraphStep(by_graph)
                _take(trainer, WARM_UP if machine.on_gpu else 1)
                began = time.perf_counter()
                _take(trainer, steps)
                seconds["graph" if by_graph else "eager"] = (time.perf_counter() - began) / steps
                if not by_graph and machine.on_gpu:
                    kernels = _kernels(trainer)
            found = {"seconds": seconds, "kernels": kernels, "reason": trainer._graph.reason}
            passed = trainer._graph.used is machine.on_gpu
            yield Check(f"MMLoP {precision}, {classes} classes", passed, found)


def memory(machine: Machine) -> Checks:
    """Measure the peak of a step, and whether many steps hold more than a few."""
    for classes in (50, 500, 1000) if machine.on_gpu else (5,):
        trainer = machine.build("MMLoP", "auto", classes)
        if machine.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        _take(trainer, WARM_UP if machine.on_gpu else 1)
        held, peak = _held(machine), peak_memory(trainer.device)
        yield Check(f"memory, {classes} classes", True, {"held": held, "peak": peak})
        steps = 300 if machine.on_gpu and classes == 50 else 2
        _take(trainer, steps)
        found = {"before": held, "after": _held(machine), "steps": steps}
        passed = not machine.on_gpu or found["after"] <= held + 2**20
        yield Check(f"a soak of {steps} steps, {classes} classes", passed, found)


def _take(trainer: PromptTrainer, steps: int) -> None:
    images, labels = images_for(trainer)
    for _ in range(steps):
        trainer.forward_backward({"img": images, "label": labels})  # which waits for its values


def _kernels(trainer: PromptTrainer) -> int:
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        _take(trainer, 1)
        torch.cuda.synchronize()
    return sum(event.device_type.name == "CUDA" for event in profiled.events())


def _held(machine: Machine) -> int:
    return torch.cuda.memory_allocated() if machine.on_gpu else 0
