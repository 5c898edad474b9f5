"""What tapead is to reach: multiples of its peers' times, and times of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from .measure import COLD, DERIVATIVES, FIRST, MEMORY, THREADED, WARM


@dataclass(frozen=True)
class Ratio:
    """Ask that a peer's figure is at least a multiple of tapead's; below 1, tapead may be the slower one."""

    peer: str
    least: float
    of: str = "tapead"


@dataclass(frozen=True)
class Ceiling:
    """Ask that tapead's own figure is at most so many seconds."""

    most: float


Target = Ratio | Ceiling

SWEEPS = Ratio("forward", 1 / 3.5)
PRODUCT = Ratio("gradient", 1 / 4)

#: by table and row
TARGETS: Mapping[tuple[str, str], tuple[Target, ...]] = {
    (WARM, "Rosenbrock, n=10"): (Ratio("casadi", 1 / 1.3), Ratio("jax", 15), SWEEPS),
    (WARM, "logistic loss, 100x10"): (Ratio("handwritten", 1 / 2.5), Ratio("jax", 10), SWEEPS),
    (WARM, "scalar loop, 500 steps"): (Ratio("casadi", 1), SWEEPS),
    (WARM, "scalar graph, 10,000 ops"): (Ratio("handwritten", 1 / 1.5), SWEEPS),
    (WARM, "Rosenbrock, n=100,000"): (Ratio("handwritten", 1 / 1.4), Ratio("jax", 2.5), SWEEPS),
    (WARM, "elementwise loss, n=1,000,000"): (SWEEPS,),
    (WARM, "elementwise loss, n=1,000,000, float32"): (SWEEPS,),
    (WARM, "cheap chain, n=1,000,000"): (SWEEPS,),
    (WARM, "logistic loss, 10,000x100"): (
        Ratio("handwritten", 1 / 1.15),
        Ratio("jax", 1),
        Ratio("torch", 1),
        SWEEPS,
    ),
    (WARM, "MLP 784-256-64-10, batch of 128"): (Ratio("limit", 1 / 1.25), Ratio("jax", 1), Ratio("torch", 1), SWEEPS),
    (WARM, "MLP 784-256-64-10, batch of 128, float32"): (
        Ratio("limit", 1 / 1.25),
        Ratio("jax", 1),
        Ratio("torch", 1),
        SWEEPS,
    ),
    (WARM, "Gaussian mixture, d=10, K=25, N=1,000"): (Ratio("jax", 1.3), Ratio("forward", 1 / 3)),
    (DERIVATIVES, "jvp: Rosenbrock, n=10"): (Ratio("jax", 3),),
    (DERIVATIVES, "hvp: Rosenbrock, n=10"): (Ratio("jax", 3), PRODUCT),
    (DERIVATIVES, "hvp: Rosenbrock, n=100"): (Ratio("jax", 3), PRODUCT),
    (DERIVATIVES, "hvp: dense layer 256x256, squares"): (Ratio("jax", 1), PRODUCT),
    (DERIVATIVES, "jacfwd: dense layer 50x50"): (Ratio("jax", 3),),
    (DERIVATIVES, "jacrev: dense layer 50x50"): (Ratio("jax", 3),),
    (DERIVATIVES, "hessian: Rosenbrock, n=100"): (Ratio("jax", 3),),
    (DERIVATIVES, "gradient through 100 steps of gradient descent, n=3"): (Ratio("jax", 3),),
    (THREADED, "elementwise loss, n=1,000,000"): (Ratio("jax", 1.9), Ratio("jax", 3.3, of="threaded")),
    (THREADED, "elementwise loss, n=1,000,000, float32"): (Ratio("jax", 2.5, of="threaded"),),
    (THREADED, "cheap chain, n=1,000,000"): (Ratio("jax", 1.3, of="threaded"),),
    (FIRST, "scalar loop, 500 steps"): (Ceiling(0.1),),
    (FIRST, "scalar graph, 10,000 ops"): (Ceiling(1.0),),
    (MEMORY, "20-op chain, n=10,000,000"): (Ratio("torch", 3),),
    (COLD, "import tapead, after numba"): (Ceiling(0.15),),
    (COLD, "load all kernels"): (Ceiling(0.3),),
    (COLD, "first gradient of a new function of 20 ops"): (Ceiling(0.01),),
}


def is_met(target: Target, figures: Mapping[str, float]) -> bool | None:
    """Say whether a row's figures, by peer, reach a target; None where one of them is missing."""
    match target:
        case Ratio(peer, least, of):
            return figures[peer] >= least * figures[of] if {peer, of} <= figures.keys() else None
        case Ceiling(most):
            return figures["tapead"] <= most if "tapead" in figures else None
