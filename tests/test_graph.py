"""Graphs: what is drawn of tapes, programs and functions; their texts; folding; Graphviz, where it is there and where not."""

import os
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapead
from tapead.drawing import Box, Frame, Picture, dot_text, mermaid_text, shade_colour
from tapead.errors import TapeadError, TapeadGraphvizError
from tapead.folding import Stretch, fold, told
from tapead.graph import NODES_SHOWN, Group, graph_of
from tapead.kernels.clock import clock
from tapead.nodes import Nodes
from tapead.program import Program

GOLDEN = Path(__file__).with_name("golden")

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="the system's Graphviz is not installed")


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def slide(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


def layer(w, x):
    h = np.tanh(x @ w["W"] + w["b"])
    return np.mean(h.T[1:] ** 2)


def tape_of(f, *args):
    with tapead.Tape() as tape:
        f(*(tape.variable(x) for x in args))
    return tape


def in_place(x):
    y = x * 2.0
    y[1] = y[0] + 1.0
    np.sum(y[1:])


def guarded(x):
    y = np.sum(x)
    return y * y if y > 0.0 else -y


def wide(x):
    return np.concatenate([x, x * np.array([1.0, 2.0]), np.exp(x)])


PICTURES = {
    "slide": lambda: tapead.grad(slide, (0, 1)).graph(2.0, 5.0),
    "layer": lambda: tapead.grad(layer).graph({"W": np.ones((3, 4)), "b": np.zeros(4)}, np.ones((50, 3))),
    "in_place": lambda: tape_of(in_place, np.ones(3)).graph(),
    "guard": lambda: tapead.value_and_grad(guarded).graph(np.ones(3)),
    "join": lambda: tape_of(wide, np.ones(2)).graph(),
    "loop": lambda: tapead.grad(spring).graph(1.0),
}


def spring(x):
    v = 0.0
    for _ in range(500):
        v = v - 0.01 * np.sin(x)
        x = x + 0.01 * v
    return x


def expect(name, text):
    """Compare with a golden file; TAPEAD_GOLDEN=write makes them anew."""
    file = GOLDEN / name
    if os.environ.get("TAPEAD_GOLDEN") == "write":
        file.write_bytes(text.encode())
    assert text == file.read_bytes().decode().replace("\r\n", "\n")


@pytest.mark.parametrize("name", PICTURES)
def test_golden(name):
    graph = PICTURES[name]()
    expect(f"{name}.dot", graph.dot())
    expect(f"{name}.mmd", graph.mermaid())
    assert str(graph) == graph.dot()
    again = PICTURES[name]()
    assert (again.dot(), again.mermaid()) == (graph.dot(), graph.mermaid())


def boxes(graph):
    return {box.name: box for box in graph.picture.boxes}


def kinds(graph):
    return [box.kind for box in graph.picture.boxes]


def dashed(graph):
    return {(a, b) for a, b, dash in graph.picture.lines if dash}


def test_slide():
    graph = PICTURES["slide"]()
    texts = [box.text for box in graph.picture.boxes]
    assert texts == [
        "v1 = x1",
        "v2 = x2",
        "v3 = log(v1)",
        "v4 = v1 * v2",
        "v5 = v3 + v4",
        "v6 = sin(v2)",
        "v7 = v5 - v6",
    ]
    assert kinds(graph) == ["input", "input", "op", "op", "op", "op", "result"]
    assert {(a, b) for a, b, _ in graph.picture.lines} == {
        ("v1", "v3"), ("v1", "v4"), ("v2", "v4"), ("v3", "v5"), ("v4", "v5"), ("v2", "v6"), ("v5", "v7"), ("v6", "v7")
    }  # fmt: skip
    assert graph.picture.frames == [Frame("scalar run of 5", ("v3", "v4", "v5", "v6", "v7"))]
    assert graph.picture.direction == "LR"


def test_views_are_dashed_and_join_the_frame_that_reads_them():
    graph = tapead.grad(lambda x: np.sum((x[1:] - x[:-1]) ** 2)).graph(np.ones(50))
    found = boxes(graph)
    views = {name for name, box in found.items() if box.kind == "view"}
    assert {found[name].text.partition(" = ")[2] for name in views} == {"v1[1:]", "v1[:49]"}
    assert dashed(graph) == {("v1", name) for name in views}
    (frame,) = graph.picture.frames
    assert views < set(frame.boxes)
    assert "v1" not in frame.boxes
    assert frame.text == "block of 3, both sweeps at a stroke"


def test_a_view_that_two_frames_read_is_in_neither():
    nodes = Nodes(tape_of(lambda x: np.sum(np.sin(x[1:])) + np.sum(np.cos(x[1:])), np.ones(3)))
    (view,) = [node for node in nodes.all if node.kind == "view"]
    readers = [node for node in nodes.all if view.index in node.operands]
    graph = graph_of(nodes, groups=[Group("one", readers[0].instructions), Group("two", readers[1].instructions)])
    assert [frame.boxes for frame in graph.picture.frames] == [(node.name,) for node in readers]


def test_writes_keep_the_memory():
    graph = PICTURES["in_place"]()
    found = boxes(graph)
    (write,) = [box for box in found.values() if box.kind == "write"]
    assert "with v2[1] = " in write.text
    assert ("v2", write.name) in dashed(graph)


def test_guards_and_results():
    graph = PICTURES["guard"]()
    (guard,) = [box for box in graph.picture.boxes if box.kind == "guard"]
    assert guard.text.endswith("is True")
    assert guard.small == ()
    assert kinds(graph).count("result") == 1  # the sum is read by the guard, too
    assert "shape=diamond" in graph.dot()


def test_results_of_a_tape_are_what_nothing_reads():
    def two(x, y):
        np.sin(x) * 2.0
        np.cos(x)

    graph = tape_of(two, 1.0, 3.0).graph()
    assert [box.text for box in graph.picture.boxes if box.kind == "result"] == ["v4 = v3 * 2", "v5 = cos(v1)"]
    assert kinds(graph).count("input") == 2  # one that nothing reads is no result


def test_numbers_of_the_code_stand_in_formulas_and_arrays_are_constants():
    graph = tape_of(lambda x: x * np.ones(2) + 3.5, np.ones(2)).graph()
    assert [box.kind for box in graph.picture.boxes] == ["input", "constant", "op", "result"]
    assert boxes(graph)["v4"].text == "v4 = v3 + 3.5"
    assert boxes(graph)["v2"].small == ("constant float64[2]",)


def test_dead_code_is_not_in_a_program():
    def f(x):
        np.exp(x)
        return np.sin(x)

    assert [box.text for box in tapead.grad(f).graph(1.0).picture.boxes] == ["v1 = x", "v2 = sin(v1)"]


def test_a_program_does_not_change_with_its_tape():
    with tapead.Tape() as tape, tapead.options(passes=()):
        x = tape.variable(2.0)
        y = x * x
        program = Program(tape, [0], [y.buffer], y.buffer, [0])
        np.sin(y)
    assert kinds(program.graph()) == ["input", "result"]
    assert kinds(tape.graph()) == ["input", "op", "result"]


def test_what_an_op_keeps_for_its_way_back_is_not_shown():
    def f(x):
        return np.linalg.det(x) * 2.0

    for graph in (tape_of(f, np.eye(2)).graph(), tapead.grad(f).graph(np.eye(2))):
        texts = [box.text.partition(" = ")[2] for box in graph.picture.boxes]
        assert texts[1] == "det(v1)"
        assert kinds(graph) == ["input", "op", "result"]
        assert len(graph.picture.lines) == 2


def test_results_that_are_inputs_or_numbers():
    assert kinds(tapead.grad(lambda x: x).graph(1.0)) == ["input"]
    assert kinds(tapead.jacobian(lambda x: (x, 1.0)).graph(1.0))[0] == "input"
    assert tapead.Tape().graph().dot().endswith("}\n")


def test_arguments_have_their_names():
    def f(a, *more, k=1.0, **options):
        return a["w"][0] * more[1] * k + options["c"]

    graph = tapead.grad(f).graph({"w": [2.0]}, 1.0, 3.0, k=2.0, c=4.0)
    labels = [box.text.partition(" = ")[2] for box in graph.picture.boxes if box.kind == "input"]
    assert sorted(labels) == ["a['w'][0]", "c", "k", "more[0]", "more[1]"]
    graph = tapead.grad(np.sin).graph(1.0)  # a builtin, whose signature may be known or not
    assert graph.picture.boxes[0].kind == "input"


def test_graph_of_the_last_call():
    vg = tapead.value_and_grad(slide, (0, 1))
    with pytest.raises(TypeError, match="was not called yet"):
        vg.graph()
    vg(2.0, 5.0)
    assert vg.graph().dot() == PICTURES["slide"]().dot()
    jacobian = tapead.jacobian(lambda x: x * x)
    assert len(jacobian.graph(np.ones(2)).picture.boxes) > 1


def test_misuse():
    vg = tapead.grad(slide)
    with pytest.raises(ValueError, match=r'"time" or None'):
        vg.graph(2.0, 5.0, colour="red")
    with pytest.raises(TypeError, match="give graph the arguments"):
        vg.graph(colour="time")
    for limit in (0, -1, 7):
        with pytest.raises(ValueError, match="at least 8"):
            vg.graph(2.0, 5.0, limit=limit)
    with pytest.raises(TypeError, match="while a function is traced"):
        tapead.grad(lambda x: vg.graph(2.0, 5.0) and x)(1.0)
    vg(2.0, 5.0)
    with pytest.raises(ValueError, match="one for each of the"):
        vg.last.program.graph(seconds=[1.0] * 99)


# ---- notes and colours -----------------------------------------------------------------------------------------------


def test_notes_and_shades():
    nodes = Nodes(tape_of(slide, 2.0, 5.0))
    graph = graph_of(nodes, notes={2: "0.693"}, shades={2: 1.0, 3: 0.0})
    found = boxes(graph)
    assert found["v3"].small == ("float64", "0.693")
    assert (found["v3"].shade, found["v4"].shade, found["v5"].shade) == (1.0, 0.0, None)
    assert f'fillcolor="{shade_colour(1.0)}"' in graph.dot()
    assert f"style v3 fill:{shade_colour(1.0)}" in graph.mermaid()
    assert "style v5" not in graph.mermaid()


def test_shades_are_colours_from_white():
    assert shade_colour(0.0) == shade_colour(-1.0) == "#ffffff"
    assert shade_colour(1.0) == shade_colour(7.0) == shade_colour(float("inf"))
    for shade in (0.5, float("nan")):
        assert re.fullmatch("#[0-9a-f]{6}", shade_colour(shade))


def test_time_colours_rows():
    vg = tapead.grad(layer)
    args = {"W": np.ones((3, 4)), "b": np.zeros(4)}, np.ones((50, 3))
    vg(*args)
    plan = vg.last.program.plan
    seconds = [float(k + 1) for k in range(len(plan.rows))]
    graph = vg.last.program.graph(seconds=seconds)
    shades = [b.shade for b in (*graph.picture.boxes, *graph.picture.frames) if b.shade is not None]
    assert max(shades) == 1.0
    assert min(shades) > 0.0
    spent = sum(s for s, instructions in zip(seconds, plan.instructions, strict=True) if instructions)
    assert sum(shades) * (spent / sum(shades)) == pytest.approx(spent)
    texts = [frame.text for frame in graph.picture.frames] + [box.small[-1] for box in graph.picture.boxes if box.shade]
    told_seconds = [float(re.search(r"([\d.]+) s, \d+%$", text)[1]) for text in texts]
    assert sum(told_seconds) == pytest.approx(spent)


def test_time_is_measured():
    if clock() is None:
        pytest.skip("the system has no clock_gettime")
    graph = tapead.grad(layer).graph({"W": np.ones((3, 4)), "b": np.zeros(4)}, np.ones((50, 3)), colour="time")
    assert any(frame.shade is not None for frame in graph.picture.frames)


# ---- folding ---------------------------------------------------------------------------------------------------------


def left_out(graph):
    return [box.text for box in graph.picture.boxes if box.kind == "left out"]


def test_loop_folds():
    graph = PICTURES["loop"]()
    # the first step starts from the number 0, and is unlike the others: of those two are shown, and the last
    assert left_out(graph) == ["… 496 times the same 5 instructions"]
    assert (
        repr(graph)
        == f"<graph of {len(graph.nodes):,} nodes, {len(graph.nodes) - len(graph.picture.boxes) + 1:,} of them left out>"
    )
    everything = tapead.grad(spring).graph(1.0, limit=None)
    assert left_out(everything) == []
    assert len(everything.picture.boxes) == len(everything.nodes) == len(graph.nodes)


def accounted(graph):
    """Count the instructions that a graph shows, or says that it left out."""
    count = 0
    nodes = {node.name: node for node in graph.nodes.all}
    for box in graph.picture.boxes:
        if box.kind != "left out":
            count += len(nodes[box.name].instructions) if not nodes[box.name].part else 0
        elif found := re.fullmatch(r"… ([\d,]+) times the same (?:([\d,]+) )?instructions?", box.text):
            times, each = (int((number or "1").replace(",", "")) for number in found.groups())
            count += times * each
        elif found := re.fullmatch(r"… ([\d,]+) instructions? left out", box.text):
            count += int(found[1].replace(",", ""))
        else:
            assert re.fullmatch(r"… [\d,]+ more (inputs|constants|views|nodes)", box.text)
    return count


def nested_loops(x):
    for _ in range(30):
        for _ in range(5):
            x = np.sin(x) * 1.5
        x = np.exp(-x)


def two_loops(x):
    y = np.cos(x)
    for _ in range(100):
        x = np.sin(x) + y
    for _ in range(200):
        x = np.tanh(x)


def elements(x):
    total = 0.0
    for k in range(len(x)):
        total = total + np.sin(x[k])


def irregular(x):
    random = np.random.default_rng(3)
    y = x
    for _ in range(3000):
        y = (np.sin, np.cos, np.tanh)[random.integers(3)](y)


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (nested_loops, 1.0, ["… 27 times the same 12 instructions"]),
        (two_loops, 1.0, ["… 96 times the same 2 instructions", "… 197 times the same instruction"]),
        (irregular, 1.0, None),
        (elements, np.ones(300), ["… 297 times the same 2 instructions"]),
    ],
)
def test_folding_accounts_for_all(f, x, expected):
    tape = tape_of(f, x)
    for limit in (8, 20, NODES_SHOWN, 200):
        graph = tape.graph(limit=limit)
        assert accounted(graph) == len(tape)
        assert len(graph.picture.boxes) <= limit + 1
        assert kinds(graph).count("result") == 1
        if limit == NODES_SHOWN and expected:
            assert [text.replace(" 296 ", " 297 ") for text in left_out(graph)] == expected
    if f is irregular:
        assert re.fullmatch(r"… 2,9\d\d instructions left out", left_out(tape.graph())[-1])
    assert accounted(tape.graph(limit=None)) == len(tape)


def test_many_inputs_fold():
    def product(*xs):
        y = xs[0]
        for x in xs[1:]:
            y = y * x

    graph = tape_of(product, *np.ones(300)).graph()
    assert left_out(graph)[0] == "… 297 more inputs"
    assert re.fullmatch("… 29[56] times the same instruction", left_out(graph)[1])
    assert accounted(graph) == 299
    names = {box.name for box in graph.picture.boxes}
    assert {end for a, b, _ in graph.picture.lines for end in (a, b)} <= names


@given(st.lists(st.integers(0, 2), max_size=120), st.integers(8, 60))
def test_folding_of_any_sequence(ops, limit):
    def f(x):
        for op in ops:
            x = (np.sin, np.cos, np.tanh)[op](x)

    nodes = Nodes(tape_of(f, 1.0)).all
    stretches = fold(nodes, limit)
    at = 0
    for stretch in stretches:
        assert at <= stretch.start < stretch.stop <= len(nodes)
        at = stretch.stop
        if stretch.times:
            period = stretch.period
            assert stretch.times * period == stretch.stop - stretch.start
            shown = [node.op for node in nodes[stretch.start - period : stretch.start]]
            for k in range(stretch.times + 1):  # the last repetition, which is shown, included
                part = nodes[stretch.start + k * period : stretch.start + (k + 1) * period]
                assert [node.op for node in part] == shown
    shown_count = len(nodes) - sum(s.stop - s.start - 1 for s in stretches)
    assert shown_count <= max(limit + 1, 0) or len(nodes) <= limit


def test_what_is_not_the_same_is_not_folded():
    def f(x):  # every other step reads what is three steps back
        values = [x, x, x, x]
        for k in range(200):
            values.append(np.sin(values[-1]) + (values[-3] if (k * k) % 7 in (1, 4) else values[-2]))

    tape = tape_of(f, 1.0)
    graph = tape.graph()
    assert "… 197 times the same 2 instructions" not in left_out(graph)
    assert accounted(graph) == len(tape)


def test_told():
    nodes = Nodes(tape_of(lambda x: np.sin(x) * 2.0, 1.0)).all
    assert told(Stretch(1, 2), nodes) == "… 1 instruction left out"
    assert told(Stretch(0, 1), nodes) == "… 1 more inputs"


# ---- labels ----------------------------------------------------------------------------------------------------------

ODD = [
    'a "quoted" name',
    "x < y > z & w &amp; &lt;",
    "back\\slash \\N \\G \\l \\n",
    "`code` #35; #quot;",
    "é ∂ v̄ ü 学",
    "a;b|c{d}[e](f)",
    "end",
    "",
]


def read_entities(text):
    return re.sub(r"#(\d+);", lambda m: chr(int(m[1])), text)


@pytest.mark.parametrize("text", ODD)
def test_labels_are_escaped_in_mermaid(text):
    lines = mermaid_text(Picture([Box("v1", "op", text)])).splitlines()
    label = re.fullmatch(r'  v1\["([^"<>&\\`]*)"\]', lines[1])[1]
    assert read_entities(label) == text
    assert (
        mermaid_text(Picture([Box("v1", "op", "two\nlines", ("below",))])).splitlines()[1]
        == '  v1["two<br/>lines<br/>below"]'
    )
    framed = mermaid_text(Picture([Box("v1", "op", "x")], frames=[Frame(text, ("v1",))])).splitlines()[1]
    assert read_entities(re.fullmatch(r'  subgraph g1\["([^"<>&\\`]*)"\]', framed)[1]) == text


def svg_texts(picture):
    graphviz = pytest.importorskip("graphviz")
    tree = ET.fromstring(graphviz.Source(dot_text(picture)).pipe(format="svg", quiet=True))
    return [element.text or "" for element in tree.iter("{http://www.w3.org/2000/svg}text")]


@needs_dot
@pytest.mark.parametrize("text", ODD)
def test_labels_are_escaped_in_dot(text):
    boxes_ = [Box("v1", "op", text, (text,)), Box("v2", "left out", text)]
    shown = svg_texts(Picture(boxes_, frames=[Frame(text, ("v1",))]))
    assert "".join(shown).replace("\xa0", " ") == text * 4 or not text


@needs_dot
def test_newlines_and_control_characters_in_dot():
    assert svg_texts(Picture([Box("v1", "op", "one\ntwo\r\nthree")])) == ["one", "two", "three"]
    assert svg_texts(Picture([Box("v1", "op", "a\x00b\x1bc\ud800")])) == ["a\ufffdb\ufffdc\ufffd"]


def test_long_formulas_are_cut():
    tape = tape_of(lambda *xs: np.stack(xs), *np.ones(3))
    graph = tape.graph()
    assert all(len(box.text) < 80 for box in graph.picture.boxes)


# ---- Graphviz --------------------------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n"


@needs_dot
@pytest.mark.parametrize("name", PICTURES)
def test_graphviz_draws(name):
    pytest.importorskip("graphviz")
    graph = PICTURES[name]()
    svg = graph.svg()
    shown = [e.text for e in ET.fromstring(svg.encode()).iter("{http://www.w3.org/2000/svg}text")]
    for box in graph.picture.boxes:
        assert box.text in [text.replace("\xa0", " ") for text in shown]
    for frame in graph.picture.frames:
        assert frame.text in [text.replace("\xa0", " ") for text in shown]
    assert graph.png().startswith(PNG)


@needs_dot
def test_save(tmp_path):
    pytest.importorskip("graphviz")
    graph = PICTURES["slide"]()
    for suffix, content in (
        (".svg", graph.svg()),
        (".dot", graph.dot()),
        (".GV", graph.dot()),
        (".mmd", graph.mermaid()),
    ):
        graph.save(tmp_path / f"a{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes().decode() == content
    graph.save(str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_save_says_what_it_cannot(tmp_path):
    graph = PICTURES["slide"]()
    for name in ("a", "a.pdf", "a.txt"):
        with pytest.raises(ValueError, match=r"must end in \.svg, \.png, \.dot, \.gv, \.mmd"):
            graph.save(tmp_path / name)
    with pytest.raises(OSError, match="missing"):
        graph.save(tmp_path / "missing" / "a.dot")
    assert list(tmp_path.iterdir()) == []


@needs_dot
def test_notebooks_show_svg():
    pytest.importorskip("graphviz")
    graph = PICTURES["slide"]()
    assert graph._repr_html_().startswith("<svg")
    assert graph._repr_svg_() == graph.svg()


def check_text_only(graph, tmp_path, error, match):
    for draw in (graph.svg, graph.png, lambda: graph.save(tmp_path / "a.svg"), lambda: graph.save(tmp_path / "a.png")):
        with pytest.raises(error, match=match) as raised:
            draw()
        assert isinstance(raised.value, TapeadError)
        assert raised.value.__suppress_context__
    assert list(tmp_path.iterdir()) == []
    assert graph._repr_svg_() is None
    html = graph._repr_html_()
    assert html.startswith("<pre>digraph {")
    assert "<font" not in html
    graph.save(tmp_path / "a.dot")
    assert graph.mermaid().startswith("flowchart")


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    check_text_only(
        PICTURES["slide"](), tmp_path, ModuleNotFoundError, r'needs graphviz.*pip install "tapead\[graph\]"'
    )


def test_without_the_program(tmp_path, monkeypatch):
    pytest.importorskip("graphviz")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    check_text_only(
        PICTURES["slide"](), tmp_path, TapeadGraphvizError, r"the program dot.*install Graphviz.*mermaid\(\)"
    )
    with pytest.raises(RuntimeError, match="needs the program dot"):
        PICTURES["slide"]().svg()


@needs_dot
def test_graphviz_that_fails(monkeypatch):
    pytest.importorskip("graphviz")
    monkeypatch.setattr("tapead.graph.dot_text", lambda *_: "digraph { -> }")
    with pytest.raises(TapeadGraphvizError, match=r"could not draw the graph: .*syntax error"):
        PICTURES["slide"]().svg()
