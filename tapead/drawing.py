"""Drawing: boxes, lines and frames as Graphviz DOT and as Mermaid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: kind of a box -> its fill, its border, the rest of its style in DOT, and what stands around its text in Mermaid
STYLES = {
    "input": ("#e6effa", "#4a7ebb", 'style="rounded,filled"', ("([", "])")),
    "constant": ("#f1f1f1", "#8f979e", 'style="rounded,filled"', ("([", "])")),
    "op": ("#ffffff", "#5b6770", "", ("[", "]")),
    "view": ("#ffffff", "#8f979e", 'style="filled,dashed"', ("[", "]")),
    "write": ("#fcefdf", "#c08437", "", ("[", "]")),
    "join": ("#ffffff", "#5b6770", "", ("[", "]")),
    "guard": ("#fbf5d7", "#a8902c", 'shape=diamond, margin="0.02,0.02"', ("{", "}")),
    "result": ("#e4f3e8", "#46915b", "peripheries=2", ("[[", "]]")),
    "left out": ("none", "none", "shape=plain, style=solid", ("[", "]")),
}
#: text, what is said in small, lines, and the frame of a group
INK, FAINT, LINE, FRAME, PAPER = "#1f2933", "#6b7680", "#7b8791", "#b9c2cb", "#f6f7f9"
#: the fill of a shade of 1; that of 0 is white
SHADE = (245, 160, 120)

FONT = "Helvetica,Arial,sans-serif"


@dataclass(frozen=True)
class Box:
    """A box: its name, its kind (a key of STYLES), its text, what is said below in small, and how much it is shaded."""

    name: str
    kind: str
    text: str
    small: tuple[str, ...] = ()
    shade: float | None = None


@dataclass(frozen=True)
class Frame:
    """A frame around boxes, by their names."""

    text: str
    boxes: tuple[str, ...]
    shade: float | None = None


@dataclass
class Picture:
    """What is drawn: boxes, lines between them (from, to, whether dashed), frames around some, from left to right or down."""

    boxes: list[Box] = field(default_factory=list)
    lines: list[tuple[str, str, bool]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    direction: str = "LR"


def shade_colour(shade: float) -> str:
    """Give the fill of a shade from 0 to 1; what lies outside counts as the nearer end, and a NaN as 1."""
    part = 1.0 if shade != shade else min(max(shade, 0.0), 1.0)
    return "#" + "".join(f"{round(255 + (end - 255) * part):02x}" for end in SHADE)


# ---- DOT -------------------------------------------------------------------------------------------------------------


def dot_text(picture: Picture, more: str = "") -> str:
    """Write a picture in DOT, Graphviz's language; `more` are further attributes of the graph."""
    lines = [
        "digraph {",
        f'  graph [rankdir={picture.direction}, fontname="{FONT}", fontsize=11, fontcolor="{FAINT}", '
        f"nodesep=0.3, ranksep=0.4, bgcolor=white{more and ', ' + more}]",
        f'  node [shape=box, style=filled, fontname="{FONT}", fontsize=13, fontcolor="{INK}", '
        'margin="0.13,0.07", height=0.4]',
        f'  edge [color="{LINE}", arrowsize=0.7]',
    ]
    boxes = {box.name: box for box in picture.boxes}
    where = "t" if picture.direction == "LR" else "b"  # lines come in at the top of a graph that is drawn downwards
    for k, frame in enumerate(picture.frames):
        fill = PAPER if frame.shade is None else shade_colour(frame.shade)
        lines += [
            f"  subgraph cluster{k + 1} {{",
            f'    graph [label=<{_html(frame.text)}>, labeljust=l, labelloc={where}, style="rounded,filled", '
            f'color="{FRAME}", fillcolor="{fill}", fontcolor="{FAINT if frame.shade is None else INK}", margin=10]',
            *(f"    {_dot_box(boxes.pop(name))}" for name in frame.boxes),
            "  }",
        ]
    lines += [f"  {_dot_box(box)}" for box in boxes.values()]
    lines += [f"  {a} -> {b}{' [style=dashed]' * dashed}" for a, b, dashed in picture.lines]
    return "\n".join([*lines, "}", ""])


def _dot_box(box: Box) -> str:
    fill, border, more, _ = STYLES[box.kind]
    if box.shade is not None:
        fill = shade_colour(box.shade)
    text = _html(box.text)
    if box.kind == "left out":
        text = f'<i><font color="{FAINT}">{text}</font></i>'
    ink = FAINT if box.shade is None else INK
    small = "".join(f'<br/><font point-size="10" color="{ink}">{_html(line)}</font>' for line in box.small)
    colours = "" if box.kind == "left out" else f', fillcolor="{fill}", color="{border}"'
    return f"{box.name} [label=<{text}{small}>{colours}{more and ', ' + more}]"


#: characters that XML cannot hold
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def _html(text: str) -> str:
    """Write text for a label in HTML, which cannot be empty, and where a backslash starts one of DOT's own escapes."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    text = text.replace("\\", "\\\\").replace("\r\n", "\n").replace("\n", "<br/>")
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text) or "&#160;"


# ---- Mermaid ---------------------------------------------------------------------------------------------------------


def mermaid_text(picture: Picture) -> str:
    """Write a picture as a Mermaid flowchart."""
    lines = [f"flowchart {'LR' if picture.direction == 'LR' else 'TD'}"]
    boxes = {box.name: box for box in picture.boxes}
    for k, frame in enumerate(picture.frames):
        lines.append(f'  subgraph g{k + 1}["{_entities(frame.text)}"]')
        lines += [f"    {_mermaid_box(boxes.pop(name))}" for name in frame.boxes]
        lines.append("  end")
    lines += [f"  {_mermaid_box(box)}" for box in boxes.values()]
    lines += [f"  {a} {'-.->' if dashed else '-->'} {b}" for a, b, dashed in picture.lines]
    for kind, (fill, border, _, _) in STYLES.items():
        names = [box.name for box in picture.boxes if box.kind == kind]
        if names:
            name = kind.replace(" ", "_")
            dashes = ",stroke-dasharray:4" * (kind == "view")
            lines.append(f"  classDef {name} fill:{fill},stroke:{border},color:{INK}{dashes}")
            lines.append(f"  class {','.join(names)} {name}")
    lines += _mermaid_shades([(box.name, box.shade) for box in picture.boxes])
    frames = [(f"g{k + 1}", frame.shade) for k, frame in enumerate(picture.frames)]
    lines += [f"  style {name} fill:{PAPER},stroke:{FRAME},color:{FAINT}" for name, shade in frames if shade is None]
    return "\n".join([*lines, *_mermaid_shades(frames), ""])


def _mermaid_shades(shades: Iterable[tuple[str, float | None]]) -> list[str]:
    return [f"  style {name} fill:{shade_colour(shade)}" for name, shade in shades if shade is not None]


def _mermaid_box(box: Box) -> str:
    start, end = STYLES[box.kind][3]
    return f'{box.name}{start}"{_lines([box.text, *box.small])}"{end}'


def _lines(texts: Sequence[str]) -> str:
    return "<br/>".join(_entities(text) for text in texts)


_ENTITIES = {c: f"#{ord(c)};" for c in '#"&<>\\`'}


def _entities(text: str) -> str:
    """Write text for a label in quotes, with Mermaid's entities for what means something there."""
    text = "".join(_ENTITIES.get(c, c) for c in text.replace("\r\n", "\n"))
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\n", "<br/>"))
