"""Tables as HTML: well formed, escaped, numbers flush right; what `explain` and `profile` show in a notebook."""

from html.parser import HTMLParser

import numpy as np
import pytest

from tapead import explain, grad, profile, stop_gradient, value_and_grad
from tapead.markup import table


class Reader(HTMLParser):
    """Read tables back: title, head and rows of each, and the sides of its cells; fails where a tag does not close the last."""

    def __init__(self):
        super().__init__()
        self.open, self.tables, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.open.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append({"title": None, "head": [], "rows": [], "sides": []})
        elif tag == "tr" and not self.inside("thead"):
            self.tables[-1]["rows"].append([])
            self.tables[-1]["sides"].append([])
        self.text = ""

    def handle_data(self, data):
        self.text += data

    def handle_endtag(self, tag):
        opened, attributes = self.open.pop()
        assert tag == opened
        assert self.inside("table") or tag == "table"
        if tag == "caption":
            self.tables[-1]["title"] = self.text
        elif tag == "th":
            assert self.inside("thead")
            self.tables[-1]["head"].append(self.text)
        elif tag == "td":
            self.tables[-1]["rows"][-1].append(self.text)
            self.tables[-1]["sides"][-1].append(attributes["style"].removeprefix("text-align: "))

    def inside(self, tag):
        return any(tag == opened for opened, _ in self.open)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader.tables


def test_a_table_is_read_back():
    columns, rows = ("n", "name"), [["1", "one"], ["2", "two"]]
    (found,) = read(table("Numbers", columns, rows))
    assert (found["title"], found["head"], found["rows"]) == ("Numbers", list(columns), rows)


def test_everything_is_escaped():
    nasty = "<lambda> & \"</td><script>'"
    text = table(nasty, (nasty, "x"), [(nasty, nasty)])
    assert "<lambda>" not in text
    assert "<script>" not in text
    (found,) = read(text)
    assert (found["title"], found["head"], found["rows"]) == (nasty, [nasty, "x"], [[nasty, nasty]])


@pytest.mark.parametrize("cells", [["1,234", "5"], ["24 µs", ""], ["15.0%"], ["-1.5e-07", "nan", "inf"], ["3.1 s"]])
def test_columns_of_numbers_are_set_flush_right(cells):
    (found,) = read(table("", ("a",), [[cell] for cell in cells]))
    assert found["sides"] == [["right"]] * len(cells)


@pytest.mark.parametrize("cells", [["1", "two"], ["3 rows"], ["v1 + v2"], ["model.py:12"], ["2 * x"]])
def test_other_columns_are_set_flush_left(cells):
    (found,) = read(table("", ("a",), [[cell] for cell in cells]))
    assert found["sides"] == [["left"]] * len(cells)


def test_a_table_may_lack_a_head_or_rows():
    assert "thead" not in table("t", (), [("a", "b")])
    (found,) = read(table("t", ("a", "b"), []))
    assert (found["head"], found["rows"]) == (["a", "b"], [])


def test_cells_and_columns_must_match():
    with pytest.raises(ValueError, match="zip"):
        table("t", ("a",), [("1", "2")])


def test_an_explanation_as_html_says_what_it_prints():
    account = explain(grad(lambda x: np.sum(x * x)), np.ones(3))
    (found,) = read(account._repr_html_())
    title, *lines = str(account).splitlines()
    assert "<lambda>" in title
    assert found["title"] == title
    assert [f"{name:<14}{value}" for name, value in found["rows"]] == lines


def test_an_explanation_as_html_gives_the_reasons():
    def leaves(x):
        return np.sum(x * np.array(stop_gradient(x).tolist()))

    account = explain(grad(leaves), np.ones(3))
    assert account.reasons
    (found,) = read(account._repr_html_())
    assert [value for name, value in found["rows"] if not name] == list(account.reasons)


def test_a_profile_as_html_says_what_it_prints():
    account = profile(value_and_grad(lambda x: np.sum(np.sin(x) * x)), np.ones(30))
    whole, rows = read(account._repr_html_())
    lines = str(account).splitlines()
    assert "<lambda>" in lines[0]
    assert whole["title"] == lines[0]
    assert [row[0] for row in whole["rows"]] == ["call", "sweeps", "around", "rows"]
    for row, line in zip(whole["rows"], lines[1:], strict=False):
        assert " ".join(row).split() == line.split()
    head = lines.index("") + 1
    assert rows["head"] == lines[head].split()
    assert len(rows["rows"]) == len(account.rows)
    for row, line in zip(rows["rows"], lines[head + 1 :], strict=True):
        assert " ".join(row).split() == line.split()
        assert len(row) == len(rows["head"])
