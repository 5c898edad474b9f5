"""How views read: random ones, whose text must give in NumPy what they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices

from tapead.tape import Buffer
from tapead.views import fits, shaped_text, view_text


@st.composite
def views(draw):
    """Draw an array, and a view of it that was made in several steps."""
    shape = draw(array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4))
    base = np.arange(float(np.prod(shape))).reshape(shape)
    view = base
    for step in draw(st.lists(st.sampled_from(["index", "turn", "ravel", "repeat"]), max_size=4)):
        if step == "index":
            index = draw(basic_indices(view.shape, allow_newaxis=True, allow_ellipsis=False, max_dims=4))
            view = view[(*(index if isinstance(index, tuple) else (index,)), ...)]
        elif step == "turn":
            view = view.transpose(draw(st.permutations(range(view.ndim))))
        elif step == "ravel" and view.flags.c_contiguous:
            view = view.reshape(-1)
        elif step == "repeat" and view.ndim < 4:
            view = np.broadcast_to(view, (2, *view.shape))
    return base, view


@given(views())
@settings(max_examples=300, deadline=None)
def test_the_text_of_a_view_gives_it(drawn):
    base, view = drawn
    start = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // 8 if view.size else 0
    text = view_text("v", base.shape, Buffer(view.dtype, view.shape, tuple(s // 8 for s in view.strides), start))
    made = np.asarray(eval(text, {"v": base, "broadcast": np.broadcast_to}))
    assert made.shape == view.shape, text
    np.testing.assert_array_equal(made, view, err_msg=text)


@pytest.mark.parametrize(
    ("shape", "wanted"), [((3,), (3, 1)), ((3,), (1, 3)), ((), (1, 1)), ((1, 4), (4, 1)), ((1, 3, 1), (3,)), ((2, 1, 3), (1, 2, 3))]
)  # fmt: skip
def test_axes_of_one_element_come_and_go(shape, wanted):
    x = np.arange(float(np.prod(shape))).reshape(shape)[()]
    made = eval(shaped_text("x", shape, wanted), {"x": x, "None": None})
    np.testing.assert_array_equal(made, np.reshape(x, wanted))


def test_what_broadcasts_alike():
    assert fits((3,), (1, 3))
    assert fits((), (1, 1))
    assert not fits((3,), (3, 1))
    assert not fits((3, 1), (3,))
