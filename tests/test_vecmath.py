"""Vector mathematics in blocks: accuracy against mpmath, NumPy's special values, huge arguments, vector code."""

import llvmlite.binding
import mpmath
import numpy as np
import pytest
from numba import njit

import tapead
from tapead.dispatch import record
from tapead.kernels import vecmath
from tapead.kernels.table import OPS

#: the exact function, and how many units in the last place the computed one may be off
EXACT = {
    "exp": (mpmath.exp, 1),
    "exp2": (lambda x: mpmath.mpf(2) ** x, 2),
    "expm1": (mpmath.expm1, 2),
    "log": (mpmath.log, 1),
    "log2": (lambda x: mpmath.log(x) / mpmath.ln2, 2),
    "log10": (mpmath.log10, 2),
    "log1p": (mpmath.log1p, 2),
    "sqrt": (mpmath.sqrt, 1),
    "sin": (mpmath.sin, 1),
    "cos": (mpmath.cos, 1),
    "tan": (mpmath.tan, 2),
    "sinh": (mpmath.sinh, 2),
    "cosh": (mpmath.cosh, 2),
    "tanh": (mpmath.tanh, 2),
    "expit": (lambda x: 1 / (1 + mpmath.exp(-x)), 2),
    "erf": (mpmath.erf, 2),
    "arcsin": (mpmath.asin, 2),
    "arccos": (mpmath.acos, 2),
    "arctan": (mpmath.atan, 2),
    "arcsinh": (mpmath.asinh, 2),
    "arccosh": (mpmath.acosh, 2),
    "arctanh": (mpmath.atanh, 2),
    "power": (lambda x, y: x**y, 2),
    "arctan2": (mpmath.atan2, 2),
}
HALF_LINE = {"log", "log2", "log10", "sqrt", "power"}
UNIT = {"arcsin", "arccos", "arctanh"}
DTYPES = [np.float64, np.float32]


def in_blocks(name, *operands):
    """Compute an op in a block."""
    (_, value), _ = tapead.value_and_grad(lambda *xs: (np.sum(xs[0] * 0.0), record(name, *xs)), has_aux=True)(*operands)
    return value


def arguments(dtype, rng, n=60):
    """Draw numbers of every size, and such as are hard: next to multiples of pi / 2, of log(2) / 2, to 1, to 0."""
    limits = np.finfo(dtype)
    sizes = np.exp2(rng.uniform(np.log2(float(limits.smallest_subnormal)), limits.maxexp - 0.01, 4 * n))
    parts = [
        sizes * rng.choice([-1, 1], 4 * n),
        rng.uniform(-1.0, 1.0, 2 * n),
        rng.uniform(-6.0, 6.0, 2 * n),
        rng.uniform(-1.05, 1.05, 2 * n) * limits.maxexp * np.log(2.0),
        rng.integers(-(10**5), 10**5, n) * (np.pi / 2),
        rng.integers(-300, 300, n) * (np.log(2.0) / 2),
        1.0 + rng.choice([-1, 1], n) * np.exp2(rng.uniform(-54.0, 0.0, n)),
        rng.uniform(-1.0, 1.0, n) * limits.tiny,
        [limits.max, -limits.max, limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal],
        [1e22, 2.0**40, 2.0**15, 6381956970095103.0 * 2.0**797]
        if dtype is np.float64
        else [1e22, 2.0**15, 16367173.0 * 2.0**72],
    ]
    return np.concatenate(parts).astype(dtype)


def operands_of(name, dtype):
    """Draw operands in an op's domain."""
    rng = np.random.default_rng(len(name))
    x = arguments(dtype, rng)
    if name == "power":
        top = float(np.finfo(dtype).maxexp)
        x = np.concatenate(
            [np.abs(x), np.exp2(rng.uniform(-30, 30, 600)), rng.uniform(0.0, 4.0, 200), rng.integers(-9, 10, 200)]
        )
        x = x[x != 0].astype(dtype)
        y = rng.uniform(-1.04, 1.04, x.size) * top / np.log2(np.abs(x.astype(float)) + (np.abs(x) == 1))
        y = np.where(rng.uniform(size=x.size) < 0.2, rng.uniform(-4, 4, x.size), y)
        return x, np.where(x < 0, np.rint(y), y).astype(dtype)
    if name == "arctan2":
        y = rng.permutation(x)
        return np.concatenate([x, y * dtype(0.9)]), np.concatenate([y, y])
    if name in HALF_LINE:
        return (np.abs(x),)
    if name in UNIT:
        return (x[np.abs(x) < 1],)
    if name == "log1p":
        return (x[x > -1],)
    if name == "arccosh":
        return (1 + np.abs(x),)
    return (x,)


def errors(name, got, operands):
    """Give the errors in units in the last place of the exact result; infinite where only one of the two overflows."""
    limits, exact = np.finfo(got.dtype), EXACT[name][0]
    unit, largest = mpmath.mpf(float(limits.smallest_subnormal)), mpmath.mpf(float(limits.max))
    found = []
    with mpmath.workprec(200):
        for z, *xs in zip(got.tolist(), *(x.tolist() for x in operands), strict=True):
            if name in ("exp", "exp2", "expm1", "sinh", "cosh", "expit") and abs(xs[0]) > 2000:
                xs = [np.copysign(2000.0, xs[0])]  # the power itself would not fit
            if name in ("erf", "tanh") and abs(xs[0]) > 100:
                xs = [np.copysign(100.0, xs[0])]
            true = exact(*map(mpmath.mpf, xs))
            last = (
                max(unit, mpmath.ldexp(1, int(mpmath.floor(mpmath.log(abs(true), 2))) - limits.nmant)) if true else unit
            )
            if not np.isfinite(z):
                z = np.copysign(np.inf, z) if abs(true) < largest else true
            found.append(float(abs(mpmath.mpf(z) - true) / last))
    return np.array(found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_accuracy(name, dtype):
    operands = operands_of(name, dtype)
    with np.errstate(all="ignore"):
        error = errors(name, in_blocks(name, *operands), operands)
    worst = int(np.argmax(error))
    assert error[worst] <= EXACT[name][1], [float(x[worst]) for x in operands]


def test_errors_sees_errors():
    x = np.array([0.5, 1.0, 3.0])
    close = np.exp(x)
    assert errors("exp", close, (x,)).max() < 1
    assert errors("exp", np.nextafter(np.nextafter(close, 99), 99), (x,)).min() > 1
    assert errors("exp", np.array([np.inf, np.nan, 1.0]), (x,)).min() > 1


SPECIAL = [0.0, 1.0, 0.5, 2.0, 3.0, 2.5, np.inf, 1e30, 7e-43, 710.0, 89.0, 1e-30, 746.0, 104.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*EXACT, "logaddexp", "logaddexp2"])
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_special_values_are_numpys(name, dtype):
    x = np.array([*SPECIAL, *(-x for x in SPECIAL), np.nan], dtype)
    pairs = [
        np.ascontiguousarray(a) for a in np.array(np.meshgrid(*[x] * OPS[name].arity)).reshape(OPS[name].arity, -1)
    ]
    got, expected = in_blocks(name, *pairs), OPS[name].numpy(*pairs)
    near = np.finfo(dtype).eps * 4
    # SciPy's expit gives 0 for subnormal results; sums of powers near 1 cancel, in NumPy too
    allowed = {"expit": np.finfo(dtype).tiny, "logaddexp": near, "logaddexp2": near}
    np.testing.assert_allclose(got, expected, rtol=near, atol=allowed.get(name, 0))
    if name not in allowed:
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(expected[number]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_one_huge_argument_does_not_touch_the_others(name, dtype):
    x = np.linspace(-30.0, 30.0, 1300).astype(dtype)
    with_huge = x.copy()
    with_huge[[5, 700]] = 1e22
    got = in_blocks(name, with_huge)
    np.testing.assert_array_equal(np.delete(got, [5, 700]), np.delete(in_blocks(name, x), [5, 700]))
    np.testing.assert_allclose(got[5], getattr(np, name)(with_huge[5]), rtol=np.finfo(dtype).eps * 2)


@pytest.mark.parametrize(
    ("name", "slope"), [("sin", np.cos), ("cos", lambda x: -np.sin(x)), ("tan", lambda x: 1 + np.tan(x) ** 2)]
)
def test_slope_at_huge_arguments(name, slope):
    x = np.linspace(-30.0, 30.0, 1300)
    x[700] = 1e22
    np.testing.assert_allclose(tapead.grad(lambda x: np.sum(record(name, x)))(x), slope(x), rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*EXACT, "logaddexp", "logaddexp2"])
def test_single_numbers_agree_with_blocks(name, dtype):
    rng = np.random.default_rng(8)
    operands = [rng.uniform(*domain, 20).astype(dtype) for domain in OPS[name].domains]
    one = tapead.value_and_grad(lambda *xs: record(name, *xs))
    single = [one(*(x[k] for x in operands))[0] for k in range(20)]
    np.testing.assert_allclose(
        single, in_blocks(name, *operands), rtol=3 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps
    )


def has_vectors():
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name) for name in ("fma", "neon", "asimd"))


@pytest.mark.skipif(not has_vectors(), reason="a CPU whose vector unit is not known")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "log", "near_sin", "tanh"])
def test_loop_vectorises(name, dtype):
    function = getattr(vecmath, name)

    @njit(error_model="numpy")
    def loop(z, x):
        for i in range(z.size):
            z[i] = function(x[i])

    x = np.linspace(0.1, 0.9, 512).astype(dtype)
    loop(np.empty_like(x), x)
    (code,) = (loop.inspect_llvm(signature) for signature in loop.signatures)
    lanes = "double" if dtype is np.float64 else "float"
    fused = [line for line in code.splitlines() if "call" in line and "@llvm.fma.v" in line and f"x {lanes}>" in line]
    assert len(fused) >= 4
