"""PyTorch in eager mode, one thread."""

from typing import Any

import torch
import torch.nn.functional

from ..problems import Problem
from . import Run, read_pair

NAME = "PyTorch eager"

torch.set_num_threads(1)


def softmax_formula(np: Any, special: Any, weights: Any, bias: Any, images: Any, labels: Any) -> Any:
    return torch.nn.functional.cross_entropy(images @ weights + bias, labels)


def prepare(problem: Problem) -> Run:
    """Keep everything as tensors; each call builds and walks the graph."""
    arguments = tuple(torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in problem.arguments)
    given = tuple(
        value if isinstance(value, int) else torch.as_tensor(value) for value in (*problem.batch, *problem.constants)
    )
    formula = softmax_formula if problem.kind == "softmax" else problem.formula

    def call() -> Any:
        value = formula(torch, torch.special, *arguments, *given)
        return value, torch.autograd.grad(value, arguments)

    return Run(call, lambda result: read_pair((result[0].detach(), tuple(g.numpy() for g in result[1]))))
