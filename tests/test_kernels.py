"""Tests of all kernels against oracles in NumPy, for each instruction set and both precisions.

The oracles compute in `longdouble`: 64 bits of mantissa on x86-64, 113 on AArch64 Linux. If it is no wider
than a double, the allowed error includes the error of the oracle.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc._registry.activations import HIDDEN, NAMES

pytestmark = pytest.mark.engine

LONG = np.longdouble
PI = LONG("3.14159265358979323846264338327950288")
# Largest errors in ULP, parsed from the comment at the head of src/kernels/vmath.pxd.
HEAD = next((Path(__file__).parent.parent / "src").rglob("vmath.pxd")).read_text().split("\n\n")[0]
STATED_ERRORS = re.findall(
    r"\b(exp|expm1|tanh|sigmoid|log|log1p|exp_any|log_any|arctan|sin|cos) (\d+(?:\.\d+)?)(?=[,;]|\.?\s)", HEAD
)
ULP = {name: float(figure) for name, figure in STATED_ERRORS}
GUARD = 24  # length of the guard zones before and after each buffer, in numbers


def real(core):
    return np.dtype(np.float64 if core.REAL_BYTES == 8 else np.float32)


def round_up_to_vectors(n, core):
    return -(-n // core.LANES) * core.LANES


class Guarded:
    """Array between two guard zones of NaN, which kernels must not overwrite.

    The array begins at a cache line, like the buffers of the engine, or `offset` numbers after one.
    """

    def __init__(self, values, dtype, offset=0):
        values = np.asarray(values, dtype)
        before = GUARD + offset
        self._raw = np.zeros((values.size + before + GUARD) * dtype.itemsize + 64, np.uint8)
        start = -(self._raw.ctypes.data + before * dtype.itemsize) % 64 + offset * dtype.itemsize
        self._all = self._raw[start : start + (values.size + before + GUARD) * dtype.itemsize].view(dtype)
        self._all[:] = np.nan
        self.array = self._all[before : before + values.size].reshape(values.shape)
        self.array[...] = values
        self._zones = self._all[:before], self._all[before + values.size :]
        self._pattern = [zone.tobytes() for zone in self._zones]

    def is_intact(self):
        return [zone.tobytes() for zone in self._zones] == self._pattern


def create_guarded(core, *arrays, offset=0):
    return [Guarded(array, real(core), offset) for array in arrays]


def ulps(got, exact):
    """Return |got - exact| in ULP (units in the last place) of the exact value."""
    kind = np.finfo(got.dtype)
    exponent = np.maximum(np.frexp(exact)[1] - 1, kind.minexp)
    return np.abs(got.astype(LONG) - exact) / np.ldexp(LONG(1), exponent - kind.nmant)


def oracle_error(dtype):
    """Return the largest error of the oracle, in ULP of dtype."""
    return 0.01 if np.finfo(LONG).nmant > np.finfo(dtype).nmant + 8 else 1.0


# ---------------------------------------------------------------------------------------------- product


def compute_product(core, A, B, C, *, transposed=False, start=None, scale=1.0, add=False, rectify=False, offset=0):
    """Return C after the product kernel, and check the guard zones; scattered rows of A must give the same result."""
    g_a = Guarded(A, real(core), offset)
    g_b, g_c = create_guarded(core, B, C)
    g_s = None if start is None else Guarded(start, real(core))
    first = None if g_s is None else g_s.array
    if transposed:
        other = C.copy()
        core.product(g_a.array, True, g_b.array, other, first, scale, add, rectify=rectify, scattered=True)
    core.product(g_a.array, transposed, g_b.array, g_c.array, first, scale, add, rectify=rectify)
    if transposed:
        assert np.array_equal(g_c.array, other, equal_nan=True)
    assert all(g.is_intact() for g in (g_a, g_b, g_c, g_s) if g is not None)
    assert np.array_equal(g_a.array, A, equal_nan=True)
    assert np.array_equal(g_b.array, B)
    return g_c.array


def build_product_case(core, m, vectors, k, transposed=False, extra=0, integers=True, seed=0):
    """Return A with `extra` unused columns of NaN, A without them, the exact product A @ B, B, C and start.

    Integers make each sum exact in any order.
    """
    rng = np.random.default_rng(seed)
    n = vectors * core.LANES

    def numbers(*shape):
        values = rng.integers(-8, 9, shape) if integers else rng.normal(size=shape)
        return values.astype(real(core))

    used = numbers(k, m) if transposed else numbers(m, k)
    A = np.full((used.shape[0], used.shape[1] + extra), np.nan, real(core))
    A[:, : used.shape[1]] = used
    B, used = numbers(k, n), used.T if transposed else used
    return A, used, used.astype(np.float64) @ B.astype(np.float64), B, numbers(m, n), numbers(n)


# Up to 25 rows and 6 vectors cover all tiles, row tails and column tails; larger B is processed in blocks.
@settings(max_examples=150)
@given(
    m=st.integers(1, 25) | st.integers(44, 60),
    vectors=st.integers(1, 6),
    k=st.integers(1, 40) | st.integers(254, 258) | st.integers(510, 514),
    transposed=st.booleans(),
    extra=st.integers(0, 5),
    offset=st.integers(0, 3),
    mode=st.sampled_from(["plain", "start", "add"]),
    scale=st.sampled_from([1.0, -0.5, 4.0]),
    seed=st.integers(0, 2**32),
)
def test_product_of_integers_is_exact(core, m, vectors, k, transposed, extra, offset, mode, scale, seed):
    A, _, exact, B, C, start = build_product_case(core, m, vectors, k, transposed, extra, seed=seed)
    if mode == "add":
        got = compute_product(core, A, B, C, transposed=transposed, scale=scale, add=True, offset=offset)
        assert np.array_equal(got, C + scale * exact)
    elif mode == "start":
        rectify = not transposed and scale < 0
        got = compute_product(core, A, B, C, transposed=transposed, start=start, rectify=rectify, offset=offset)
        assert np.array_equal(got, np.maximum(start + exact, 0) if rectify else start + exact)
    else:
        C[...] = np.nan  # without `start`, the kernel must not read the old values of C
        assert np.array_equal(compute_product(core, A, B, C, transposed=transposed, offset=offset), exact)


@pytest.mark.sampled(7)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("m", range(1, 34))
def test_product_is_exact_for_each_number_of_rows(every_core, m, transposed):
    for vectors in range(1, 8):
        A, _, exact, B, C, start = build_product_case(every_core, m, vectors, 3, transposed)
        got = compute_product(every_core, A, B, C, transposed=transposed, start=start)
        assert np.array_equal(got, start + exact)
        got = compute_product(every_core, A, B, C, transposed=transposed, add=True)
        assert np.array_equal(got, C + exact)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("vectors", [1, 2, 5])
@pytest.mark.parametrize("k", [3, 300])
def test_product_fills_remaining_columns_of_c_with_zeros(core, vectors, k, transposed):
    """Columns of C beyond the product become zero; with `add`, they keep their values."""
    A, _, exact, B, C, start = build_product_case(core, 11, vectors, k, transposed)
    n = C.shape[1]
    C = np.hstack([C, np.full((11, 2 * core.LANES), 7, real(core))])
    got = compute_product(core, A, B, C, transposed=transposed, start=start)
    assert np.array_equal(got[:, :n], start + exact)
    assert (got[:, n:] == 0).all()
    got = compute_product(core, A, B, C, transposed=transposed, add=True)
    assert np.array_equal(got[:, :n], C[:, :n] + exact)
    assert (got[:, n:] == 7).all()


# B is copied to panels if C has at least 384 rows.
@pytest.mark.parametrize(
    ("m", "vectors", "k"),
    [(3, 1, 5000), (130, 9, 257), (257, 3, 600), (64, 40, 784), (1, 64, 900), (389, 7, 300), (400, 5, 20)],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_error_of_large_product_is_within_bound(core, m, vectors, k, transposed):
    A, used, exact, B, C, start = build_product_case(core, m, vectors, k, transposed, extra=1, integers=False)
    # Standard error bound of a sum of k products in any order, plus the rounding of this oracle.
    magnitude = np.abs(used).astype(np.float64) @ np.abs(B) + np.abs(C) + np.abs(start)
    bound = 1.1 * (k + 3) * np.finfo(real(core)).eps * magnitude
    for how, expected in (
        ({}, exact),
        ({"start": start}, start + exact),
        ({"scale": -0.25, "add": True}, C - 0.25 * exact),
    ):
        got = compute_product(core, A, B, C, transposed=transposed, **how)
        assert (np.abs(got - expected) <= bound).all()


@pytest.mark.parametrize(("vectors", "k"), [(1, 3), (5, 70), (4, 256), (7, 600)])
@pytest.mark.parametrize("transposed", [False, True])
def test_row_of_product_does_not_depend_on_other_rows(core, vectors, k, transposed):
    """A part of the rows gives the same bits as all rows."""
    A, used, _, B, C, start = build_product_case(core, 400, vectors, k, transposed, integers=False)
    for how in ({"start": start}, {"scale": -0.3, "add": True}):
        complete = compute_product(core, A, B, C, transposed=transposed, **how)
        for low, high in ((0, 1), (1, 2), (7, 10), (16, 63), (32, 83), (399, 400)):
            part = np.ascontiguousarray(used.T[:, low:high] if transposed else used[low:high])
            got = compute_product(core, part, B, C[low:high], transposed=transposed, **how)
            assert got.tobytes() == complete[low:high].tobytes()


def test_product_propagates_nan_and_infinity(core):
    A, _, _, B, C, _ = build_product_case(core, 5, 2, 4)
    B[:] = 1
    A[:] = 1
    A[2, 1], A[4, 3] = np.nan, np.inf
    got = compute_product(core, A, B, C)
    assert np.isnan(got[2]).all()
    assert (got[4] == np.inf).all()
    assert (got[[0, 1, 3]] == 4).all()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("m", "vectors", "k"), [(1, 1, 3), (13, 3, 7), (391, 5, 40), (20, 2, 256)])
@pytest.mark.parametrize("transposed", [False, True])
def test_guarded_product_stores_only_finite_results(core, m, vectors, k, transposed, bad):
    """Elements whose result is not finite keep their values; all others are as without the guard."""
    A, _, _, B, C, _ = build_product_case(core, m, vectors, k, transposed, integers=False)
    unguarded = C.copy()
    assert not core.product(A, transposed, B, unguarded, None, -0.1, True, guarded=False)
    guarded = C.copy()
    assert not core.product(A, transposed, B, guarded, None, -0.1, True, guarded=True)
    assert guarded.tobytes() == unguarded.tobytes()
    A[(k - 1, m // 2) if transposed else (m // 2, k - 1)] = bad
    C[0, -1] = 0.85 * np.finfo(real(core)).max  # the sum of this large element and any finite update is finite
    guarded, unguarded = C.copy(), C.copy()
    core.product(A, transposed, B, unguarded, None, -0.1, True, guarded=False)
    assert core.product(A, transposed, B, guarded, None, -0.1, True, guarded=True)
    assert not np.isfinite(unguarded[m // 2]).any()
    assert guarded.tobytes() == np.where(np.isfinite(unguarded), unguarded, C).tobytes()


# -------------------------------------------------------------------------------------- functions, in ULP


def pad_to_vectors(x, core):
    x = np.asarray(x).astype(real(core))
    return np.concatenate([x, np.repeat(x[-1:], -len(x) % core.LANES)])


def call(core, name, x):
    """Return the results of the kernel `name` for x; for an activation, its values."""
    (source,) = create_guarded(core, pad_to_vectors(x, core))
    out = Guarded(np.full(len(source.array), np.nan), real(core))
    if name in HIDDEN:
        core.activate(name, source.array, out.array)
    else:
        core.vector_function(name, source.array, out.array)
    assert source.is_intact()
    assert out.is_intact()
    return out.array[: len(x)]


@pytest.mark.parametrize(("root", "eps"), [(1.0, 1e-8), (31.6, 1e-8), (1.05, 1e-3), (1.0, 1e-30), (2.0, 1e31)])
def test_quotient_by_root_has_stated_error(core, root, eps):
    """The error is at most 3.5 ULP, also if Newton steps replace the instructions for root and quotient."""
    kind, rng, n = np.finfo(real(core)), np.random.default_rng(0), 64_000
    exponents = rng.uniform(np.log2(LONG(kind.tiny)) + 1, np.log2(LONG(kind.max)) - 1, n).astype(float)
    square = np.exp2(exponents).astype(kind.dtype)
    x = (rng.choice([-1, 1], n) * np.exp2(0.5 * exponents + rng.uniform(-9, 9, n))).astype(kind.dtype)
    out = np.empty(n, kind.dtype)
    core.divide_by_root(x, square, root, eps, out)
    exact = x.astype(LONG) / (LONG(kind.dtype.type(root)) * np.sqrt(square.astype(LONG)) + LONG(kind.dtype.type(eps)))
    normal = np.abs(exact) >= kind.tiny
    assert ulps(out[normal], exact[normal]).max() < 3.5 + oracle_error(kind.dtype)


def test_quotient_by_root_is_finite_for_smallest_and_largest_numbers(core):
    kind = np.finfo(real(core))
    square = np.array([0, kind.tiny / 2, kind.tiny, kind.max], kind.dtype).repeat(core.LANES)
    out = np.empty(len(square), kind.dtype)
    core.divide_by_root(np.ones_like(square), square, 1, 1e-8, out)
    assert out.reshape(4, -1)[:3] == pytest.approx(1e8)
    assert out.reshape(4, -1)[3] * float(np.sqrt(kind.max)) == pytest.approx(1)


# Arguments with the largest errors of some function, found by a search over some hundred million arguments.
HARD_ARGUMENTS = (
    *(5.8429074, 5.8437614, 4.489855445284468, 4.492169863155314),
    *(0.28745365, 0.28323278, 0.34698251863403273, 0.40091538301753715),
    *(1.5762075, 1.4133185, 1.5610417640439447, 1.4028152567986016),
    *(0.2840254, 0.2813867, 0.4019822397158176, 0.2791798490090495),
    *(3.4400616, 4.14735702582904, 4.5050907, 0.20378097048138122),
)


def arguments_between(low, high, count=60_000):
    """Return numbers of a range: uniform, log-uniform, near the steps of the range reduction, and HARD_ARGUMENTS."""
    rng = np.random.default_rng(0)
    max_magnitude = max(abs(low), abs(high))
    signs = [-1] if high <= 0 else [1] if low >= 0 else [-1, 1]
    magnitudes = [sign * 10.0 ** rng.uniform(-36, np.log10(max_magnitude), count) for sign in signs]
    reduction_steps = (np.arange(-300, 301) * 0.5 * np.log(2))[:, None] * (1 + np.linspace(-1e-6, 1e-6, 9))
    hard = np.outer(signs, HARD_ARGUMENTS)
    even = [rng.uniform(a, b, count) for a, b in ((low, high), (max(low, -3), min(high, 3)))]
    x = np.concatenate([*even, reduction_steps.ravel(), hard.ravel(), *magnitudes])
    return x[(x >= low) & (x <= high)]


def limits(core):
    """Return the arguments at which exp gives the smallest and the largest normal number."""
    kind = np.finfo(real(core))
    return float(np.log(LONG(kind.tiny))), float(np.log(LONG(kind.max)))


def angles(low):
    """Return arguments of sin and cos: random ones, and the neighbors of multiples of pi / 4."""
    highest = 1.6e6 if low < -700 else 12_000
    quarters = np.unique(np.concatenate([np.arange(-5000, 5000), np.linspace(-highest, highest, 20_001) // 0.78]))
    near = (quarters * np.pi / 4)[:, None] * (1 + np.linspace(-1e-6, 1e-6, 5))
    x = np.concatenate([arguments_between(-highest, highest), near.ravel()])
    return x[np.abs(x) <= highest]


def exact_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


# For each function: the exact function, and a function that returns arguments, given the limits of exp.
FUNCTIONS = {
    "exp": (np.exp, lambda low, high: arguments_between(low, 0)),
    "expm1": (np.expm1, lambda low, high: arguments_between(2 * low, 0)),
    "log": (
        np.log,
        lambda low, high: np.concatenate([arguments_between(1, 16), np.exp(arguments_between(1, high * 0.9999))]),
    ),
    "log1p": (np.log1p, lambda low, high: arguments_between(0, 1)),
    "exp_any": (np.exp, lambda low, high: arguments_between(low, -low)),
    "log_any": (
        np.log,
        lambda low, high: np.concatenate(
            [arguments_between(1e-9, 3), np.exp(arguments_between(low * 0.999, high * 0.999))]
        ),
    ),
    "arctan": (np.arctan, lambda low, high: arguments_between(-300, 300)),
    "sigmoid": (exact_sigmoid, lambda low, high: arguments_between(low, -2 * low)),
    "tanh": (np.tanh, lambda low, high: arguments_between(2 * low, -2 * low)),
    "sin": (np.sin, lambda low, high: angles(low)),
    "cos": (np.cos, lambda low, high: angles(low)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_at_most_its_stated_error(core, name):
    exact, arguments = FUNCTIONS[name]
    x = np.unique(arguments(*limits(core)).astype(real(core)))
    expected = exact(x.astype(LONG))
    # Smaller results are excluded here; another test checks that they are zero.
    normal = np.abs(expected) >= np.finfo(real(core)).tiny
    errors = ulps(call(core, name, x), expected)[normal]
    worst = errors.argmax()
    found = f"{errors[worst]:.3f} ULP at {x[normal][worst]!r}"
    assert errors[worst] <= ULP[name] + oracle_error(real(core)), found


def test_each_function_has_stated_error():
    assert ULP.keys() == FUNCTIONS.keys()
    assert max(ULP.values()) <= 3


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("exp", [(0.0, 1.0), (-0.0, 1.0), (-np.inf, 0.0)]),
        ("expm1", [(0.0, 0.0), (-0.0, 0.0), (-np.inf, -1.0)]),
        ("log", [(1.0, 0.0)]),
        ("log1p", [(0.0, 0.0)]),
        ("exp_any", [(0.0, 1.0), (-np.inf, 0.0), (np.inf, np.inf)]),
        ("log_any", [(1.0, 0.0), (0.0, -np.inf)]),
        ("arctan", [(0.0, 0.0), (-0.0, -0.0)]),
        ("sigmoid", [(0.0, 0.5), (-0.0, 0.5), (np.inf, 1.0), (-np.inf, 0.0)]),
        ("tanh", [(0.0, 0.0), (-0.0, -0.0), (np.inf, 1.0), (-np.inf, -1.0)]),
    ],
)
def test_function_is_exact_at_zero_and_infinity(core, name, pairs):
    x, expected = np.array(pairs).T
    got = call(core, name, x)
    assert np.array_equal(got, expected)
    if name == "tanh":
        assert np.array_equal(np.signbit(got), np.signbit(expected))


@pytest.mark.parametrize("name", dict.fromkeys([*FUNCTIONS, *HIDDEN]))
def test_function_of_nan_is_nan(core, name):
    assert np.isnan(call(core, name, [np.nan, -np.nan])).all()


@pytest.mark.parametrize("name", ["exp", "sigmoid"])
def test_results_below_the_smallest_normal_number_are_zero(core, name):
    low, _ = limits(core)
    arguments = low * np.array([1 + 1e-6, 1.01, 1.5, 10, 1e6, 1e30])
    assert np.array_equal(call(core, name, arguments), np.zeros(6))
    assert (call(core, name, low * np.array([1 - 1e-6, 0.999])) > 0).all()


@pytest.mark.parametrize("name", ["exp", "expm1", "sigmoid", "tanh"])
def test_function_of_large_arguments_is_its_limit(core, name):
    large = -np.array([2.0**7, 1e3, 1e30, float(np.finfo(real(core)).max)])
    limit = {"exp": 0, "sigmoid": 0}.get(name, -1)
    if core.REAL_BYTES == 8:
        large[0] = -750
    assert (call(core, name, large) == limit).all()
    if name in ("sigmoid", "tanh"):
        assert (call(core, name, -large) == 1).all()


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh"])
def test_function_stays_within_its_range(core, name):
    x = FUNCTIONS[name][1](*limits(core))
    got = call(core, name, x)
    assert (got <= 1).all()
    assert (got >= (-1 if name == "tanh" else 0)).all()


# ---------------------------------------------------------------------------------------- activations


def erfc(x):
    """Return erfc(x) for x >= 0 by a series of positive terms for small x and a continued fraction for large x."""
    small = np.minimum(x, 2)
    term = total = 2 * small / np.sqrt(PI) * np.exp(-small * small)
    for k in range(1, 90):
        term = term * (2 * small * small / (2 * k + 1))
        total = total + term
    large = np.maximum(x, 2)
    fraction = large
    for k in range(400, 0, -1):
        fraction = large + LONG(k) / 2 / fraction
    tail = np.exp(-large * large) / (fraction * np.sqrt(PI))
    return np.where(x < 2, 1 - total, tail)


def normal_cdf(z):
    tail = erfc(np.abs(z) / np.sqrt(LONG(2))) / 2
    return np.where(z < 0, tail, 1 - tail)


def density(z):
    return np.exp(-z * z / 2) / np.sqrt(2 * PI)


def softplus(z):
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def tanh_softplus_derivative(z):
    """Return the derivative of tanh(softplus(z))."""
    return exact_sigmoid(z) / np.cosh(np.minimum(softplus(z), 5000)) ** 2


SELU, SELU_A = LONG("1.0507009873554804934193349852946"), LONG("1.6732632423543772848170429916717")

# Functions that compute f(z) and f'(z) by their definitions.
ORACLES = {
    "sigmoid": (exact_sigmoid, lambda z: exact_sigmoid(z) * exact_sigmoid(-z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": (lambda z: np.where(z > 0, z, 0), lambda z: np.where(z > 0, 1, 0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, z / 100), lambda z: np.where(z > 0, 1, 1 / LONG(100))),
    "identity": (lambda z: z, np.ones_like),
    "softplus": (lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), exact_sigmoid),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: np.exp(np.minimum(z, 0))),
    "gelu": (lambda z: z * normal_cdf(z), lambda z: normal_cdf(z) + z * density(z)),
    "mish": (lambda z: z * np.tanh(softplus(z)), lambda z: np.tanh(softplus(z)) + z * tanh_softplus_derivative(z)),
    "selu": (
        lambda z: np.where(z > 0, SELU * z, SELU * SELU_A * np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, SELU, SELU * SELU_A * np.exp(np.minimum(z, 0))),
    ),
    "sin": (np.sin, np.cos),
    "silu": (lambda z: z * exact_sigmoid(z), lambda z: exact_sigmoid(z) * (1 + z * exact_sigmoid(-z))),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_activation_and_derivative_have_stated_error(core, name):
    low, high = limits(core)
    dtype = real(core)
    z = np.unique(np.concatenate([arguments_between(low, high, 3000), arguments_between(-16, 16, 3000)]).astype(dtype))
    z = z[np.abs(z) >= np.finfo(dtype).tiny]
    (Z,), rng = create_guarded(core, pad_to_vectors(z, core)), np.random.default_rng(0)
    A = Guarded(np.full(len(Z.array), np.nan), dtype)
    D = Guarded(rng.choice([-2, -0.5, 0, 1, 4], len(Z.array)), dtype)
    factor = D.array.astype(LONG)
    core.activate(name, Z.array, A.array, D.array)
    assert Z.is_intact()
    assert A.is_intact()
    assert D.is_intact()
    values, derivatives = (f(Z.array.astype(LONG)) for f in ORACLES[name])
    # Errors of values are in ULP: the tail of gelu is exp(-z**2 / 2), whose argument is rounded. Errors of derivatives
    # are absolute, because gradients sum them; in the derivative of silu, z (1 - sigmoid(z)) cancels.
    allowed = {"gelu": 5 + Z.array.astype(LONG) ** 2 / 2, "mish": 5, "selu": 4}.get(name, 3)
    smallest = np.finfo(dtype).tiny
    # Results below the smallest normal number become zero, so the errors of small results have an absolute limit.
    small = np.abs(values) < 4 * smallest
    assert (np.abs(A.array - values)[small] <= 4 * smallest).all()
    assert ((ulps(A.array, values) <= allowed + oracle_error(dtype)) | small).all()
    allowed = {"silu": 3 + np.abs(Z.array) / 2, "mish": 4 + np.abs(Z.array), "selu": 5}.get(name, 3)
    assert (np.abs(D.array - factor * derivatives) <= allowed * np.finfo(dtype).eps * np.abs(factor)).all()


@pytest.mark.parametrize("name", HIDDEN)
def test_activation_in_index_gives_same_bits(core, name):
    z = pad_to_vectors(np.random.default_rng(1).normal(size=50) * 3, core)
    separate = call(core, name, z)
    (both,) = create_guarded(core, z)
    core.activate(name, both.array, both.array)
    assert both.is_intact()
    assert both.array.tobytes() == separate.tobytes()


@pytest.mark.parametrize(
    ("name", "value", "derivative"),
    [
        ("sigmoid", 0.5, 0.25),
        ("tanh", 0, 1),
        ("relu", 0, 0),
        ("leaky_relu", 0, 0.01),
        ("identity", 0, 1),
        ("elu", 0, 1),
        ("gelu", 0, 0.5),
        ("silu", 0, 0.5),
        ("mish", 0, 0.6),
    ],
)
def test_activation_and_derivative_are_equal_at_positive_and_negative_zero(core, name, value, derivative):
    for zero in (0.0, -0.0):
        Z, A, D = create_guarded(core, *np.array([[zero], [7.0], [1.0]]) * np.ones(core.LANES))
        core.activate(name, Z.array, A.array, D.array)
        assert (A.array == value).all()
        assert (D.array == real(core).type(derivative)).all()


# ------------------------------------------------------------------------------------------- softmax


def compute_softmax(core, values, in_index=False):
    """Return softmax and log(sum(exp)) of each row of `values`; the padding of the input is NaN."""
    rows, n = values.shape
    padding = np.full((rows, round_up_to_vectors(n, core) - n), np.nan)
    Z = Guarded(np.hstack([values, padding]), real(core))
    A = Z if in_index else Guarded(np.full(Z.array.shape, np.nan), real(core))
    log_sum = Guarded(np.full(round_up_to_vectors(rows, core), np.nan), real(core))
    scratch = Guarded(np.full(Z.array.shape[1] * core.LANES + round_up_to_vectors(rows, core), np.nan), real(core))
    core.softmax(Z.array, n, A.array, log_sum.array, scratch.array)
    assert all(buffer.is_intact() for buffer in (Z, A, log_sum, scratch))
    assert (A.array[:, n:] == 0).all(), "the padding must be zero"
    return A.array[:, :n], log_sum.array[:rows]


def compare_softmax(core, values, **how):
    values = np.asarray(values).astype(real(core))
    P, log_sum = compute_softmax(core, values, **how)
    exact = values.astype(LONG)
    largest = exact.max(axis=1, keepdims=True)
    e = np.exp(exact - largest)
    total = e.sum(axis=1, keepdims=True)
    eps, n = np.finfo(real(core)).eps, values.shape[1]
    # The rounding of z - largest dominates if it is large; e adds it to its own error.
    relative = eps * (4 + n + (largest - exact) / 2)
    assert (np.abs(P - e / total) <= relative * (e / total) + np.finfo(real(core)).tiny).all()
    expected = (largest + np.log(total))[:, 0]
    assert (np.abs(log_sum - expected) <= eps * (np.abs(expected) + np.abs(largest[:, 0]) + n)).all()
    assert (np.abs(P.sum(axis=1, dtype=LONG) - 1) <= eps * (4 + n)).all()
    return P


@given(
    rows=st.integers(1, 40),
    n=st.integers(1, 40),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e3, 1e30]),
    shift=st.sampled_from([0.0, -1.0, 1e4, -1e30]),
    in_index=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_softmax_has_stated_error(core, rows, n, spread, shift, in_index, seed):
    values = shift + spread * np.random.default_rng(seed).normal(size=(rows, n))
    compare_softmax(core, values, in_index=in_index)


def test_softmax_of_extreme_values_is_finite(core):
    largest = float(np.finfo(real(core)).max)
    rows = np.array(
        [
            [0, 0, 0],
            [1000, -1000, 0],
            [-1000, -1000, -1000],
            [largest, 0, -largest],
            [-largest, -largest, -largest],
            [largest, largest, largest],
            [1e-30, 0, -1e-30],
        ]
    )
    P, log_sum = compute_softmax(core, rows)
    assert P[[0, 2, 4, 5, 6]] == pytest.approx(1 / 3)
    assert np.array_equal(P[[1, 3]], [[1, 0, 0], [1, 0, 0]])
    log3 = np.log(3)
    assert log_sum == pytest.approx([log3, 1000, log3 - 1000, largest, -largest, largest, log3], rel=1e-6)


@pytest.mark.parametrize("column", range(3))
def test_softmax_and_log_sum_of_nan_are_nan(core, column):
    values = np.zeros((3, 3))
    values[1, column] = np.nan
    P, log_sum = compute_softmax(core, values)
    assert np.isnan(P[1]).all()
    assert np.isnan(log_sum[1])
    assert P[[0, 2]] == pytest.approx(1 / 3)


# ------------------------------------------------------------------------------------------- other kernels


def test_transpose_of_one_tile(core):
    square = np.arange(core.LANES**2).reshape(core.LANES, core.LANES)
    source, out = create_guarded(core, square, np.full(square.shape, np.nan))
    core.transpose(source.array, out.array)
    assert source.is_intact()
    assert out.is_intact()
    assert np.array_equal(out.array, square.T)


@pytest.mark.parametrize("columns", [1, 3])
def test_find_not_finite_returns_first_index(core, columns):
    for rows in range(1, 2 * core.LANES + 3):
        values = np.random.default_rng(rows).choice([0, 1.5, -1e30, 1e30], (rows, columns))
        # Guard zones of NaN surround the array; the search must ignore them.
        X = Guarded(values, real(core), offset=rows % 4)
        assert core.find_not_finite(X.array)[0] == -1
        for index in range(rows * columns):
            for bad in (np.nan, np.inf, -np.inf):
                X.array.flat[index] = bad
                X.array.flat[min(index + 2, rows * columns - 1)] = bad
                assert core.find_not_finite(X.array)[0] == index
                X.array[...] = values


def test_find_not_finite_in_long_rows_returns_largest_number_before(core):
    """The kernel searches many vectors at once; the largest number is that of the elements before the first index."""
    n = 40 * core.LANES + 3
    values = np.random.default_rng(0).standard_normal(n)
    X = Guarded(values.reshape(1, n), real(core))
    assert core.find_not_finite(X.array) == (-1, abs(X.array).max())
    for index in (0, 1, *(k * core.LANES + d for k in (1, 16, 17, 32, 33, 40) for d in (-1, 0, 1)), n - 1):
        for bad in (np.nan, np.inf):
            X.array[...] = values
            X.array[0, index] = bad
            X.array[0, min(index + 20, n - 1)] = bad
            assert core.find_not_finite(X.array) == (index, abs(X.array[0, :index]).max(initial=0))


def test_find_not_finite_accepts_all_finite_numbers(core):
    kind = np.finfo(real(core))
    values = [kind.max, -kind.max, kind.tiny, kind.smallest_subnormal, 0.0, -0.0] * 30
    values = np.array(values, real(core)).reshape(-1, 4)
    assert core.find_not_finite(values)[0] == -1
    values.flags.writeable = False
    assert core.find_not_finite(values)[0] == -1


def test_core_states_activations_and_sizes(core):
    assert core.ACTIVATIONS == NAMES
    assert {4: "f32", 8: "f64"}[core.REAL_BYTES] == core.__name__[-3:]
    assert core.LANES * core.REAL_BYTES in (16, 32, 64) or core.LANES == 1


def test_multiply_adds_computes_all_chains(core):
    # The compiler removes chains whose result is constant; it cannot know the result if the operands are arguments.
    chains = core.TILE[0] * core.TILE[1]
    assert core.multiply_adds(3, 2.0, 1.0) == core.LANES * sum(8 * j + 7 for j in range(chains))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 16, 21, 64])
@pytest.mark.parametrize(("key", "row", "rate"), [(0, 0, 0.5), (2**64 - 1, 77, 0.1), (3**40, 10**6, 0.999)])
def test_dropout_mask_follows_definition_of_hash(core, n, key, row, rate):
    def mix(z):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    row_hash = mix((key + row * 0x9E3779B97F4A7C15) % 2**64)
    low, high = row_hash % 2**32, row_hash >> 32
    active = []
    for unit in range(n):
        x = unit * 0x9E3779B9 % 2**32 ^ low
        x = ((x ^ x >> 16) * 0x7FEB352D + high) % 2**32
        x = (x ^ x >> 15) * 0x846CA68B % 2**32
        active.append((x ^ x >> 16) >= int(rate * 2**32))
    mask = Guarded(np.full(n, np.nan), real(core))
    core.dropout_mask(key, row, rate, mask.array)
    assert mask.is_intact()
    assert mask.array.tolist() == np.where(active, real(core).type(1 / (1 - rate)), 0).tolist()
