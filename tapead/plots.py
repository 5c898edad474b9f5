"""The picture of a comparison: cost against size, error against step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .comparison import (
    CENTRAL_DIFFERENCES,
    FORWARD_DIFFERENCES,
    FORWARD_MODE,
    METHODS,
    PASSES,
    REVERSE_MODE,
    SYMBOLIC,
    Measurement,
    Slope,
)

#: method -> colour (Okabe and Ito: told apart by the colour-blind, too) and marker
STYLES = {
    FORWARD_DIFFERENCES: ("#E69F00", "o"),
    CENTRAL_DIFFERENCES: ("#D55E00", "s"),
    SYMBOLIC: ("#CC79A7", "^"),
    FORWARD_MODE: ("#56B4E9", "D"),
    REVERSE_MODE: ("#0072B2", "o"),
}
GREY = "#666666"
#: the least error that is drawn: a fraction of the precision of a number
LEAST = 1e-17


def draw(figure: Any, title: str, found: Sequence[Measurement], slope: Slope | None) -> None:
    """Draw two panels, both with logarithmic axes: cost against n, error against step."""
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"{title}: five ways to one gradient", fontsize=13)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(True, which="major", color="#DDDDDD", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    _draw_cost(left, found)
    _draw_errors(right, slope)


def _draw_cost(axes: Any, found: Sequence[Measurement]) -> None:
    """Draw what a gradient costs."""
    counted = all(m.operations is not None for m in found)
    for method in METHODS:
        own = [m for m in found if m.method == method]
        if not own:
            continue
        colour, marker = STYLES[method]
        costs = [m.operations.total if counted and m.operations is not None else m.seconds for m in own]
        reverse = method == REVERSE_MODE
        axes.plot(
            [m.n for m in own],
            [cost or np.nan for cost in costs],
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=2.6 if reverse else 1.6,
            label=_labelled(method),
            zorder=3 if reverse else 2,
        )
    sizes = sorted({m.n for m in found})
    shown = [n for k, n in enumerate(sizes) if len(sizes) < 9 or k % 2 == 0]
    axes.set_xticks(shown, [str(n) for n in shown])
    axes.minorticks_off()
    axes.set_xlabel("number of variables n")
    axes.set_ylabel("operations for one gradient" if counted else "seconds for one gradient")
    axes.set_title("cost", fontsize=11)
    axes.legend(frameon=False, fontsize=9)


def _labelled(method: str) -> str:
    """Name a method, and say how often it goes over the function."""
    if method == SYMBOLIC:
        return "symbolic (each partial written out)"
    return f"{method} ({PASSES[method]} pass{'es' * (PASSES[method] != '1')})"


def _draw_errors(axes: Any, slope: Slope | None) -> None:
    """Draw how far the differences are from the truth for each step, and what both modes leave."""
    axes.set_xlabel("step h of the differences")
    axes.set_ylabel("relative error of the slope")
    if slope is None:
        axes.text(0.5, 0.5, "no reference in high precision", transform=axes.transAxes, ha="center", color=GREY)
        return
    axes.set_title(f"error of the slope along one direction, n = {slope.n}", fontsize=11)
    axes.set_ylim(LEAST / 10, 100)
    h = [s.step for s in slope.steps]
    for method, errors in (
        (FORWARD_DIFFERENCES, [s.forward for s in slope.steps]),
        (CENTRAL_DIFFERENCES, [s.central for s in slope.steps]),
    ):
        colour, marker = STYLES[method]
        axes.plot(
            h, [e or np.nan for e in errors], color=colour, marker=marker, markersize=4, linewidth=1.6, label=method
        )
    for method, error, style, width in (
        (REVERSE_MODE, slope.reverse_mode, "-", 2.6),
        (FORWARD_MODE, slope.forward_mode, (0, (4, 3)), 1.6),
    ):
        # an error of nothing at all has no place on a logarithmic axis: it is drawn at the bottom
        axes.axhline(
            max(error, LEAST), color=STYLES[method][0], linewidth=width, linestyle=style, label=f"{method}: no step"
        )
    note = {"transform": axes.transAxes, "va": "top", "color": GREY, "fontsize": 9}
    axes.text(0.27, 0.97, "← rounding, like ε/h", ha="left", **note)
    axes.text(0.97, 0.97, "truncation, like h and h² →", ha="right", **note)
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0.0, 0.14))
