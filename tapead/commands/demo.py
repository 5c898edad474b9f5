"""Train on handwritten digits with gradients from the tape, check them and time them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from typing import Any

from ..demo import Figures, Settings, decimal, run_demo
from ..extras import require
from ..models import MODELS
from ..picture import Picture
from ..screen import PlainScreen, Screen, screen_for


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    usual = Settings()
    parser.add_argument("--model", choices=MODELS, default=usual.model, help="what to train (default: %(default)s)")
    parser.add_argument(
        "--epochs", type=int, default=usual.epochs, metavar="N", help="passes over the images (default: %(default)s)"
    )
    parser.add_argument(
        "--batch", type=int, default=usual.batch, metavar="N", help="images in a minibatch (default: %(default)s)"
    )
    parser.add_argument(
        "--lr", type=float, default=usual.lr, metavar="ALPHA", help="length of a step (default: %(default)s)"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw loss and accuracy against epochs, as .png, .svg or .pdf")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object with all figures, null for those that are not finite"
    )


def run(arguments: argparse.Namespace) -> None:
    """Train, check, time and show."""
    require("sklearn", "the demo")
    settings = Settings(arguments.model, arguments.epochs, arguments.batch, arguments.lr)
    picture = Picture(arguments.plot, "--plot", (9.0, 3.8)) if arguments.plot is not None else None
    screen = PlainScreen(sys.stderr) if arguments.json else screen_for(sys.stdout)
    figures = run_demo(settings, screen)
    if picture is not None:
        draw(figures, picture.figure)
        picture.save()
    if arguments.json:
        print(json.dumps(finite(dataclasses.asdict(figures)), indent=2, allow_nan=False))
    else:
        show(figures, screen)


def finite(value: Any) -> Any:
    """Copy nested dicts and lists with None for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(figures: Figures, screen: Screen) -> None:
    """Write the figures for a reader."""
    screen.line()
    screen.line(f"Held-out accuracy {figures.accuracy:.4f}, cross-entropy {decimal(figures.loss, 4)}")
    screen.line()
    screen.table(
        f"Gradient check: slopes of the loss along {len(figures.gradient_check)} random unit directions,"
        " by the tape and by differences",
        ("tape", "forward", "error", "central", "error"),
        [
            (
                decimal(d.tape, 12),
                decimal(d.forward, 12),
                f"{d.forward_error:.1e}",
                decimal(d.central, 12),
                f"{d.central_error:.1e}",
            )
            for d in figures.gradient_check
        ],
    )
    screen.line(f"The gradient derived by hand differs from the tape's by {figures.difference_to_gradient_by_hand:.1e}")
    screen.line()
    tape = figures.gradients_per_second["tape"]
    names = {
        "tape": "tape (value and gradient)",
        "by_hand": "derived by hand in NumPy (gradient)",
        "central_differences": f"central differences ({2 * figures.parameters} losses)",
    }
    screen.table(
        f"Gradients per second, {figures.parameters} parameters, minibatch of {figures.batch}",
        ("method", "per second", "tape against it"),
        [
            (
                title,
                f"{figures.gradients_per_second[name]:,.{0 if figures.gradients_per_second[name] >= 10 else 1}f}",
                f"{tape / figures.gradients_per_second[name]:,.1f}x",
            )
            for name, title in names.items()
        ],
    )
    screen.line()
    how = "compiling kernels (kept for the next time)" if figures.compiled else "loading compiled kernels"
    seconds = figures.seconds
    screen.line(f"Seconds: {seconds['kernels']:.2f} {how}, {seconds['tracing']:.3f} tracing,")
    screen.line(f"         {seconds['training']:.2f} training ({figures.steps} steps), {seconds['total']:.2f} in all")


def draw(figures: Figures, figure: Any) -> None:
    """Draw two panels: the losses against epochs, and the accuracy on held-out images."""
    epochs = range(1, figures.epochs + 1)
    marker = "o" if figures.epochs <= 10 else ""  # few points make a poor line, one makes none
    losses, accuracies = figure.subplots(1, 2, sharex=True)
    for name, values in (
        ("training", [epoch.loss for epoch in figures.history]),
        ("held out", [epoch.held_out_loss for epoch in figures.history]),
    ):
        missing = "" if all(map(math.isfinite, values)) else " (not always finite)"
        losses.plot(epochs, values, marker=marker, label=name + missing)
    losses.set(xlabel="epoch", ylabel="cross-entropy per image", yscale="log")
    ticker = require("matplotlib.ticker", "--plot")
    losses.yaxis.set(major_locator=ticker.LogLocator(subs=(1, 2, 5)), major_formatter=lambda value, _: f"{value:g}")
    losses.yaxis.set(minor_formatter=ticker.NullFormatter())
    losses.legend(frameon=False)
    accuracies.plot(epochs, [epoch.held_out_accuracy for epoch in figures.history], marker=marker, color="C1")
    accuracies.set(xlabel="epoch", ylabel="accuracy on held-out images")
    accuracies.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    for axes in (losses, accuracies):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.get_layout_engine().set(wspace=0.08)
    figure.suptitle(
        f"{MODELS[figures.model].title}: {figures.parameters} parameters, batch {figures.batch}, alpha {figures.lr:g}"
    )
