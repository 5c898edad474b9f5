"""Draw time against n for the elementwise loss, on log axes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .measure import CURVE, Timing
from .peers import Peer

TITLE = "time of value and gradient against n, elementwise loss"

#: peers that would only crowd the picture
LEFT_OUT = ("threaded", "forward", "limit", "differences")


def curves(timings: Sequence[Timing]) -> dict[str, list[tuple[int, float]]]:
    """Give each peer's points (n, seconds), by n."""
    points: dict[str, list[tuple[int, float]]] = {}
    for timing in timings:
        if timing.table == CURVE:
            size = int(timing.problem.rpartition("=")[2].replace(",", ""))
            points.setdefault(timing.peer, []).append((size, timing.median))
    return {name: sorted(found) for name, found in points.items()}


def draw(timings: Sequence[Timing], peers: Mapping[str, Peer], file: Path) -> None:
    """Draw the curves to a file; the same figures give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    points = curves(timings)
    with mpl.rc_context({"svg.hashsalt": "tapead", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.0, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for name in peers:
            if name in points:
                emphasis = {"linewidth": 2.5, "zorder": 3} if name == "tapead" else {"linewidth": 1.2}
                axes.loglog(
                    *zip(*points[name], strict=True), marker="o", markersize=3, label=peers[name].NAME, **emphasis
                )
        axes.set_xlabel("n")
        axes.set_ylabel("seconds a call")
        axes.set_title("sum(sin(x)*y + (x-y)**2*exp(-x)), value and both gradients, one thread", fontsize="medium")
        axes.grid(which="major", alpha=0.3)
        if points:
            axes.legend()
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
