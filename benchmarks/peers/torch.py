"""PyTorch in eager mode, on the threads that OpenMP is given."""

import os
from typing import Any

import numpy as np
import torch
import torch.nn.functional

from ..problems import Problem
from . import Run, read_all

NAME = "PyTorch eager"

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def softmax_formula(np: Any, special: Any, weights: Any, bias: Any, images: Any, labels: Any) -> Any:
    return torch.nn.functional.cross_entropy(images @ weights + bias, labels)


def network_formula(np: Any, special: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, *batch: Any) -> Any:
    images, labels = batch
    hidden = torch.tanh(torch.tanh(images @ w1 + b1) @ w2 + b2)
    return torch.nn.functional.cross_entropy(hidden @ w3 + b3, labels)


FORMULAS = {"softmax": softmax_formula, "network": network_formula}


def prepare(problem: Problem) -> Run:
    """Keep everything as tensors; each call builds and walks the graph."""
    arguments = tuple(torch.tensor(np.asarray(value), requires_grad=True) for value in problem.arguments)
    given = tuple(
        value if isinstance(value, int) else torch.as_tensor(value) for value in (*problem.batch, *problem.constants)
    )
    formula = FORMULAS.get(problem.kind, problem.formula)

    def call() -> Any:
        value = formula(torch, torch.special, *arguments, *given)
        return value, torch.autograd.grad(value, arguments)

    return Run(call, lambda result: read_all((result[0].detach().numpy(), tuple(g.numpy() for g in result[1]))))
