"""Every kernel of the compiled cores against a slow oracle in NumPy, in every variant and both precisions.

The oracles compute in `longdouble`: 64 bits of mantissa on x86-64, 113 on AArch64 Linux. Where it is no wider
than a double, the error of the oracle itself is allowed for.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc._registry.activations import HIDDEN, NAMES

LONG = np.longdouble
PI = LONG("3.14159265358979323846264338327950288")
# The largest errors in units in the last place, as the head of src/vmath.pxd states them.
HEAD = (Path(__file__).parent.parent / "src" / "vmath.pxd").read_text().split("\n\n")[0]
STATED = re.findall(r"\b(exp|expm1|tanh|sigmoid|log|log1p) (\d+(?:\.\d+)?)(?=[,;]|\.?\s)", HEAD)
ULP = {name: float(figure) for name, figure in STATED}
GUARD = 24  # numbers before and after each buffer


def real(core):
    return np.dtype(np.float64 if core.REAL_BYTES == 8 else np.float32)


def padded(n, core):
    return -(-n // core.LANES) * core.LANES


class Guarded:
    """An array between two zones of a pattern that nobody may write to; reading from them gives NaN.

    It begins at a cache line, as the engine's own buffers do, or `offset` numbers after one.
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

    def intact(self):
        return [zone.tobytes() for zone in self._zones] == self._pattern


def guard_all(core, *arrays, offset=0):
    return [Guarded(array, real(core), offset) for array in arrays]


def ulps(got, exact):
    """|got - exact| in units in the last place of the exact value."""
    kind = np.finfo(got.dtype)
    exponent = np.maximum(np.frexp(exact)[1] - 1, kind.minexp)
    return np.abs(got.astype(LONG) - exact) / np.ldexp(LONG(1), exponent - kind.nmant)


def oracle_error(dtype):
    """How far, in ULP of dtype, the oracle itself may be off."""
    return 0.01 if np.finfo(LONG).nmant > np.finfo(dtype).nmant + 8 else 1.0


# ---------------------------------------------------------------------------------------------- product


def checked_product(core, A, B, C, *, transposed=False, start=None, scale=1.0, add=False, rectify=False, offset=0):
    """What the kernel makes of C; columns of A that are not used hold NaN. Where rows of A lie is the same to it."""
    g_a = Guarded(A, real(core), offset)
    g_b, g_c = guard_all(core, B, C)
    g_s = None if start is None else Guarded(start, real(core))
    first = None if g_s is None else g_s.array
    if transposed:
        other = C.copy()
        core.product(g_a.array, True, g_b.array, other, first, scale, add, rectify=rectify, scattered=True)
    core.product(g_a.array, transposed, g_b.array, g_c.array, first, scale, add, rectify=rectify)
    if transposed:
        assert np.array_equal(g_c.array, other, equal_nan=True)
    assert all(g.intact() for g in (g_a, g_b, g_c, g_s) if g is not None)
    assert np.array_equal(g_a.array, A, equal_nan=True)
    assert np.array_equal(g_b.array, B)
    return g_c.array


def product_case(core, m, vectors, k, transposed=False, extra=0, whole=True, seed=0):
    """A with `extra` unused columns of NaN, and without them, exactly A @ B, then B, C and the start.

    Whole numbers make every sum exact, in whatever order.
    """
    rng = np.random.default_rng(seed)
    n = vectors * core.LANES

    def numbers(*shape):
        values = rng.integers(-8, 9, shape) if whole else rng.normal(size=shape)
        return values.astype(real(core))

    used = numbers(k, m) if transposed else numbers(m, k)
    A = np.full((used.shape[0], used.shape[1] + extra), np.nan, real(core))
    A[:, : used.shape[1]] = used
    B, used = numbers(k, n), used.T if transposed else used
    return A, used, used.astype(np.float64) @ B.astype(np.float64), B, numbers(m, n), numbers(n)


# Below 25 rows and 6 vectors every tile, row tail and column tail of every variant occurs; more of B comes in blocks.
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
def test_product_of_whole_numbers_is_exact(core, m, vectors, k, transposed, extra, offset, mode, scale, seed):
    A, _, exact, B, C, start = product_case(core, m, vectors, k, transposed, extra, seed=seed)
    if mode == "add":
        got = checked_product(core, A, B, C, transposed=transposed, scale=scale, add=True, offset=offset)
        assert np.array_equal(got, C + scale * exact)
    elif mode == "start":
        rectify = not transposed and scale < 0
        got = checked_product(core, A, B, C, transposed=transposed, start=start, rectify=rectify, offset=offset)
        assert np.array_equal(got, np.maximum(start + exact, 0) if rectify else start + exact)
    else:
        C[...] = np.nan  # what stands in C does not matter
        assert np.array_equal(checked_product(core, A, B, C, transposed=transposed, offset=offset), exact)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("m", range(1, 34))
def test_product_of_every_height(core, m, transposed):
    for vectors in range(1, 8):
        A, _, exact, B, C, start = product_case(core, m, vectors, 3, transposed)
        got = checked_product(core, A, B, C, transposed=transposed, start=start)
        assert np.array_equal(got, start + exact)
        got = checked_product(core, A, B, C, transposed=transposed, add=True)
        assert np.array_equal(got, C + exact)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("vectors", [1, 2, 5])
@pytest.mark.parametrize("k", [3, 300])
def test_a_product_with_longer_rows_of_c(core, vectors, k, transposed):
    """What the product does not reach becomes zero, or stays where it is added to."""
    A, _, exact, B, C, start = product_case(core, 11, vectors, k, transposed)
    n = C.shape[1]
    C = np.hstack([C, np.full((11, 2 * core.LANES), 7, real(core))])
    got = checked_product(core, A, B, C, transposed=transposed, start=start)
    assert np.array_equal(got[:, :n], start + exact)
    assert (got[:, n:] == 0).all()
    got = checked_product(core, A, B, C, transposed=transposed, add=True)
    assert np.array_equal(got[:, :n], C[:, :n] + exact)
    assert (got[:, n:] == 7).all()


# B is copied together from 384 rows of C on.
@pytest.mark.parametrize(
    ("m", "vectors", "k"),
    [(3, 1, 5000), (130, 9, 257), (257, 3, 600), (64, 40, 784), (1, 64, 900), (389, 7, 300), (400, 5, 20)],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_product_of_large_operands(core, m, vectors, k, transposed):
    A, used, exact, B, C, start = product_case(core, m, vectors, k, transposed, extra=1, whole=False)
    # The classic bound of a sum of k products in any order, and the rounding of this oracle.
    magnitude = np.abs(used).astype(np.float64) @ np.abs(B) + np.abs(C) + np.abs(start)
    bound = 1.1 * (k + 3) * np.finfo(real(core)).eps * magnitude
    for how, wanted in (
        ({}, exact),
        ({"start": start}, start + exact),
        ({"scale": -0.25, "add": True}, C - 0.25 * exact),
    ):
        got = checked_product(core, A, B, C, transposed=transposed, **how)
        assert (np.abs(got - wanted) <= bound).all()


@pytest.mark.parametrize(("vectors", "k"), [(1, 3), (5, 70), (4, 256), (7, 600)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_row_of_a_product_does_not_depend_on_its_neighbors(core, vectors, k, transposed):
    """So that neither a share of the rows nor a single one gives other bits than the whole."""
    A, used, _, B, C, start = product_case(core, 400, vectors, k, transposed, whole=False)
    for how in ({"start": start}, {"scale": -0.3, "add": True}):
        whole = checked_product(core, A, B, C, transposed=transposed, **how)
        for low, high in ((0, 1), (1, 2), (7, 10), (16, 63), (32, 83), (399, 400)):
            part = np.ascontiguousarray(used.T[:, low:high] if transposed else used[low:high])
            got = checked_product(core, part, B, C[low:high], transposed=transposed, **how)
            assert got.tobytes() == whole[low:high].tobytes()


def test_product_passes_nan_and_infinity_on(core):
    A, _, _, B, C, _ = product_case(core, 5, 2, 4)
    B[:] = 1
    A[:] = 1
    A[2, 1], A[4, 3] = np.nan, np.inf
    got = checked_product(core, A, B, C)
    assert np.isnan(got[2]).all()
    assert (got[4] == np.inf).all()
    assert (got[[0, 1, 3]] == 4).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("m", "vectors", "k"), [(1, 1, 3), (13, 3, 7), (391, 5, 40), (20, 2, 256)])
@pytest.mark.parametrize("transposed", [False, True])
def test_guarded_product_stores_what_is_finite(core, m, vectors, k, transposed, bad):
    """What would not be finite stays as it is; the rest is as without the guard."""
    A, _, _, B, C, _ = product_case(core, m, vectors, k, transposed, whole=False)
    unguarded = C.copy()
    assert not core.product(A, transposed, B, unguarded, None, -0.1, True, guarded=False)
    guarded = C.copy()
    assert not core.product(A, transposed, B, guarded, None, -0.1, True, guarded=True)
    assert guarded.tobytes() == unguarded.tobytes()
    A[(k - 1, m // 2) if transposed else (m // 2, k - 1)] = bad
    C[0, -1] = 0.85 * np.finfo(real(core)).max  # finite, whatever it is added up with
    guarded, unguarded = C.copy(), C.copy()
    core.product(A, transposed, B, unguarded, None, -0.1, True, guarded=False)
    assert core.product(A, transposed, B, guarded, None, -0.1, True, guarded=True)
    assert not np.isfinite(unguarded[m // 2]).any()
    assert guarded.tobytes() == np.where(np.isfinite(unguarded), unguarded, C).tobytes()


# -------------------------------------------------------------------------------------- functions, in ULP


def whole_vectors(x, core):
    x = np.asarray(x).astype(real(core))
    return np.concatenate([x, np.repeat(x[-1:], -len(x) % core.LANES)])


def call(core, name, x):
    """The kernel `name` on numbers x; for an activation its values."""
    (source,) = guard_all(core, whole_vectors(x, core))
    out = Guarded(np.full(len(source.array), np.nan), real(core))
    if name in HIDDEN:
        core.activate(name, source.array, out.array)
    else:
        core.vector_function(name, source.array, out.array)
    assert source.intact()
    assert out.intact()
    return out.array[: len(x)]


@pytest.mark.parametrize(("root", "eps"), [(1.0, 1e-8), (31.6, 1e-8), (1.05, 1e-3), (1.0, 1e-30), (2.0, 1e31)])
def test_a_quotient_over_a_root(core, root, eps):
    """Three roundings at most before the last one, also where it is not taken by the instructions for it."""
    kind, rng, n = np.finfo(real(core)), np.random.default_rng(0), 64_000
    exponents = rng.uniform(np.log2(LONG(kind.tiny)) + 1, np.log2(LONG(kind.max)) - 1, n).astype(float)
    square = np.exp2(exponents).astype(kind.dtype)
    x = (rng.choice([-1, 1], n) * np.exp2(0.5 * exponents + rng.uniform(-9, 9, n))).astype(kind.dtype)
    out = np.empty(n, kind.dtype)
    core.divide_by_root(x, square, root, eps, out)
    exact = x.astype(LONG) / (LONG(kind.dtype.type(root)) * np.sqrt(square.astype(LONG)) + LONG(kind.dtype.type(eps)))
    normal = np.abs(exact) >= kind.tiny
    assert ulps(out[normal], exact[normal]).max() < 3.5 + oracle_error(kind.dtype)


def test_a_quotient_over_a_root_at_the_ends(core):
    kind = np.finfo(real(core))
    square = np.array([0, kind.tiny / 2, kind.tiny, kind.max], kind.dtype).repeat(core.LANES)
    out = np.empty(len(square), kind.dtype)
    core.divide_by_root(np.ones_like(square), square, 1, 1e-8, out)
    assert out.reshape(4, -1)[:3] == pytest.approx(1e8)
    assert out.reshape(4, -1)[3] * float(np.sqrt(kind.max)) == pytest.approx(1)


# Where a search through some hundred million arguments found the largest errors of one function or another.
HARD = (
    *(5.8429074, 5.8437614, 4.489855445284468, 4.492169863155314),
    *(0.28745365, 0.28323278, 0.34698251863403273, 0.40091538301753715),
    *(1.5762075, 1.4133185, 1.5610417640439447, 1.4028152567986016),
    *(0.2840254, 0.2813867, 0.4019822397158176, 0.2791798490090495),
    *(3.4400616, 4.14735702582904, 4.5050907, 0.20378097048138122),
)


def between(low, high, count=60_000):
    """Numbers of a range: even, even in magnitude, near the steps of the reduction, and the hard ones."""
    rng = np.random.default_rng(0)
    size = max(abs(low), abs(high))
    signs = [-1] if high <= 0 else [1] if low >= 0 else [-1, 1]
    magnitudes = [sign * 10.0 ** rng.uniform(-36, np.log10(size), count) for sign in signs]
    turns = (np.arange(-300, 301) * 0.5 * np.log(2))[:, None] * (1 + np.linspace(-1e-6, 1e-6, 9))
    hard = np.outer(signs, HARD)
    even = [rng.uniform(a, b, count) for a, b in ((low, high), (max(low, -3), min(high, 3)))]
    x = np.concatenate([*even, turns.ravel(), hard.ravel(), *magnitudes])
    return x[(x >= low) & (x <= high)]


def limits(core):
    """The arguments at which exp gives the smallest and the largest normal number."""
    kind = np.finfo(real(core))
    return float(np.log(LONG(kind.tiny))), float(np.log(LONG(kind.max)))


def exact_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


FUNCTIONS = {
    "exp": (np.exp, lambda low, high: between(low, 0)),
    "expm1": (np.expm1, lambda low, high: between(2 * low, 0)),
    "log": (np.log, lambda low, high: np.concatenate([between(1, 16), np.exp(between(1, high * 0.9999))])),
    "log1p": (np.log1p, lambda low, high: between(0, 1)),
    "sigmoid": (exact_sigmoid, lambda low, high: between(low, -2 * low)),
    "tanh": (np.tanh, lambda low, high: between(2 * low, -2 * low)),
}  # the exact function, and its range between the limits of exp


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_keeps_its_stated_error(core, name):
    exact, arguments = FUNCTIONS[name]
    x = np.unique(arguments(*limits(core)).astype(real(core)))
    wanted = exact(x.astype(LONG))
    normal = np.abs(wanted) >= np.finfo(real(core)).tiny  # results below are zero, and tested apart
    errors = ulps(call(core, name, x), wanted)[normal]
    worst = errors.argmax()
    found = f"{errors[worst]:.3f} ULP at {x[normal][worst]!r}"
    assert errors[worst] <= ULP[name] + oracle_error(real(core)), found


def test_every_function_has_a_stated_error():
    assert ULP.keys() == FUNCTIONS.keys()
    assert max(ULP.values()) <= 3


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("exp", [(0.0, 1.0), (-0.0, 1.0), (-np.inf, 0.0)]),
        ("expm1", [(0.0, 0.0), (-0.0, 0.0), (-np.inf, -1.0)]),
        ("log", [(1.0, 0.0)]),
        ("log1p", [(0.0, 0.0)]),
        ("sigmoid", [(0.0, 0.5), (-0.0, 0.5), (np.inf, 1.0), (-np.inf, 0.0)]),
        ("tanh", [(0.0, 0.0), (-0.0, -0.0), (np.inf, 1.0), (-np.inf, -1.0)]),
    ],
)
def test_function_is_exact_at_its_limits(core, name, pairs):
    x, wanted = np.array(pairs).T
    got = call(core, name, x)
    assert np.array_equal(got, wanted)
    if name == "tanh":
        assert np.array_equal(np.signbit(got), np.signbit(wanted))


@pytest.mark.parametrize("name", dict.fromkeys([*FUNCTIONS, *HIDDEN]))
def test_function_of_nan_is_nan(core, name):
    assert np.isnan(call(core, name, [np.nan, -np.nan])).all()


@pytest.mark.parametrize("name", ["exp", "sigmoid"])
def test_results_below_the_smallest_normal_number_are_zero(core, name):
    low, _ = limits(core)
    below = low * np.array([1 + 1e-6, 1.01, 1.5, 10, 1e6, 1e30])
    assert np.array_equal(call(core, name, below), np.zeros(6))
    assert (call(core, name, low * np.array([1 - 1e-6, 0.999])) > 0).all()


@pytest.mark.parametrize("name", ["exp", "expm1", "sigmoid", "tanh"])
def test_function_far_from_zero_is_its_limit(core, name):
    far = -np.array([2.0**7, 1e3, 1e30, float(np.finfo(real(core)).max)])
    limit = {"exp": 0, "sigmoid": 0}.get(name, -1)
    if core.REAL_BYTES == 8:
        far[0] = -750
    assert (call(core, name, far) == limit).all()
    if name in ("sigmoid", "tanh"):
        assert (call(core, name, -far) == 1).all()


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh"])
def test_function_never_leaves_its_range(core, name):
    x = FUNCTIONS[name][1](*limits(core))
    got = call(core, name, x)
    assert (got <= 1).all()
    assert (got >= (-1 if name == "tanh" else 0)).all()


# ---------------------------------------------------------------------------------------- activations


def erfc(x):
    """erfc(x) for x >= 0: a series of positive terms for small x, a continued fraction for large x."""
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


def mish_bend(z):
    """The slope of tanh(softplus(z))."""
    return exact_sigmoid(z) / np.cosh(np.minimum(softplus(z), 5000)) ** 2


SELU, SELU_A = LONG("1.0507009873554804934193349852946"), LONG("1.6732632423543772848170429916717")

# f(z) and f'(z) by their definitions.
ORACLES = {
    "sigmoid": (exact_sigmoid, lambda z: exact_sigmoid(z) * exact_sigmoid(-z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": (lambda z: np.where(z > 0, z, 0), lambda z: np.where(z > 0, 1, 0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, z / 100), lambda z: np.where(z > 0, 1, 1 / LONG(100))),
    "identity": (lambda z: z, np.ones_like),
    "softplus": (lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), exact_sigmoid),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: np.exp(np.minimum(z, 0))),
    "gelu": (lambda z: z * normal_cdf(z), lambda z: normal_cdf(z) + z * density(z)),
    "mish": (lambda z: z * np.tanh(softplus(z)), lambda z: np.tanh(softplus(z)) + z * mish_bend(z)),
    "selu": (
        lambda z: np.where(z > 0, SELU * z, SELU * SELU_A * np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, SELU, SELU * SELU_A * np.exp(np.minimum(z, 0))),
    ),
    "silu": (lambda z: z * exact_sigmoid(z), lambda z: exact_sigmoid(z) * (1 + z * exact_sigmoid(-z))),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_activation_and_its_derivative(core, name):
    low, high = limits(core)
    dtype = real(core)
    z = np.unique(np.concatenate([between(low, high, 3000), between(-16, 16, 3000)]).astype(dtype))
    z = z[np.abs(z) >= np.finfo(dtype).tiny]
    (Z,), rng = guard_all(core, whole_vectors(z, core)), np.random.default_rng(0)
    A = Guarded(np.full(len(Z.array), np.nan), dtype)
    D = Guarded(rng.choice([-2, -0.5, 0, 1, 4], len(Z.array)), dtype)
    factor = D.array.astype(LONG)
    core.activate(name, Z.array, A.array, D.array)
    assert Z.intact()
    assert A.intact()
    assert D.intact()
    values, slopes = (f(Z.array.astype(LONG)) for f in ORACLES[name])
    # Values in ULP: the tail of gelu is that of exp(-z**2 / 2), whose argument is rounded. Slopes absolutely,
    # as they add up in a gradient; z (1 - sigmoid(z)) in that of silu cancels.
    allowed = {"gelu": 5 + Z.array.astype(LONG) ** 2 / 2, "mish": 5, "selu": 4}.get(name, 3)
    tiny = np.finfo(dtype).tiny
    small = np.abs(values) < 4 * tiny  # below tiny there is only zero
    assert (np.abs(A.array - values)[small] <= 4 * tiny).all()
    assert ((ulps(A.array, values) <= allowed + oracle_error(dtype)) | small).all()
    allowed = {"silu": 3 + np.abs(Z.array) / 2, "mish": 4 + np.abs(Z.array), "selu": 5}.get(name, 3)
    assert (np.abs(D.array - factor * slopes) <= allowed * np.finfo(dtype).eps * np.abs(factor)).all()


@pytest.mark.parametrize("name", HIDDEN)
def test_activation_in_place(core, name):
    z = whole_vectors(np.random.default_rng(1).normal(size=50) * 3, core)
    apart = call(core, name, z)
    (both,) = guard_all(core, z)
    core.activate(name, both.array, both.array)
    assert both.intact()
    assert both.array.tobytes() == apart.tobytes()


@pytest.mark.parametrize(
    ("name", "value", "slope"),
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
def test_activation_at_zero(core, name, value, slope):
    for zero in (0.0, -0.0):
        Z, A, D = guard_all(core, *np.array([[zero], [7.0], [1.0]]) * np.ones(core.LANES))
        core.activate(name, Z.array, A.array, D.array)
        assert (A.array == value).all()
        assert (D.array == real(core).type(slope)).all()


# ------------------------------------------------------------------------------------------- softmax


def checked_softmax(core, values, in_place=False):
    """Softmax of the rows of `values`, log(sum(exp)) of each; what stands in the padding does not matter."""
    rows, n = values.shape
    padding = np.full((rows, padded(n, core) - n), np.nan)
    Z = Guarded(np.hstack([values, padding]), real(core))
    A = Z if in_place else Guarded(np.full(Z.array.shape, np.nan), real(core))
    log_sum = Guarded(np.full(padded(rows, core), np.nan), real(core))
    scratch = Guarded(np.full(Z.array.shape[1] * core.LANES + padded(rows, core), np.nan), real(core))
    core.softmax(Z.array, n, A.array, log_sum.array, scratch.array)
    assert all(buffer.intact() for buffer in (Z, A, log_sum, scratch))
    assert (A.array[:, n:] == 0).all(), "the padding must be zero"
    return A.array[:, :n], log_sum.array[:rows]


def compare_softmax(core, values, **how):
    values = np.asarray(values).astype(real(core))
    P, log_sum = checked_softmax(core, values, **how)
    exact = values.astype(LONG)
    largest = exact.max(axis=1, keepdims=True)
    e = np.exp(exact - largest)
    total = e.sum(axis=1, keepdims=True)
    eps, n = np.finfo(real(core)).eps, values.shape[1]
    # The rounding of z - largest is what counts where it is large; e adds it to its own error.
    relative = eps * (4 + n + (largest - exact) / 2)
    assert (np.abs(P - e / total) <= relative * (e / total) + np.finfo(real(core)).tiny).all()
    wanted = (largest + np.log(total))[:, 0]
    assert (np.abs(log_sum - wanted) <= eps * (np.abs(wanted) + np.abs(largest[:, 0]) + n)).all()
    assert (np.abs(P.sum(axis=1, dtype=LONG) - 1) <= eps * (4 + n)).all()
    return P


@given(
    rows=st.integers(1, 40),
    n=st.integers(1, 40),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e3, 1e30]),
    shift=st.sampled_from([0.0, -1.0, 1e4, -1e30]),
    in_place=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_softmax(core, rows, n, spread, shift, in_place, seed):
    values = shift + spread * np.random.default_rng(seed).normal(size=(rows, n))
    compare_softmax(core, values, in_place=in_place)


def test_softmax_of_extreme_rows(core):
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
    P, log_sum = checked_softmax(core, rows)
    assert P[[0, 2, 4, 5, 6]] == pytest.approx(1 / 3)
    assert np.array_equal(P[[1, 3]], [[1, 0, 0], [1, 0, 0]])
    log3 = np.log(3)
    assert log_sum == pytest.approx([log3, 1000, log3 - 1000, largest, -largest, largest, log3], rel=1e-6)


@pytest.mark.parametrize("column", range(3))
def test_softmax_of_nan_is_nan_with_its_logarithm(core, column):
    values = np.zeros((3, 3))
    values[1, column] = np.nan
    P, log_sum = checked_softmax(core, values)
    assert np.isnan(P[1]).all()
    assert np.isnan(log_sum[1])
    assert P[[0, 2]] == pytest.approx(1 / 3)


# ------------------------------------------------------------------------------------------- the rest


def test_transpose(core):
    square = np.arange(core.LANES**2).reshape(core.LANES, core.LANES)
    source, out = guard_all(core, square, np.full(square.shape, np.nan))
    core.transpose(source.array, out.array)
    assert source.intact()
    assert out.intact()
    assert np.array_equal(out.array, square.T)


@pytest.mark.parametrize("columns", [1, 3])
def test_first_not_finite(core, columns):
    for rows in range(1, 2 * core.LANES + 3):
        values = np.random.default_rng(rows).choice([0, 1.5, -1e30, 1e30], (rows, columns))
        X = Guarded(values, real(core), offset=rows % 4)  # between two zones of NaN
        assert core.find_not_finite(X.array)[0] == -1
        for place in range(rows * columns):
            for bad in (np.nan, np.inf, -np.inf):
                X.array.flat[place] = bad
                X.array.flat[min(place + 2, rows * columns - 1)] = bad
                assert core.find_not_finite(X.array)[0] == place
                X.array[...] = values


def test_first_not_finite_of_many(core):
    """Many vectors are looked through at a time; the largest number is that of those before."""
    n = 40 * core.LANES + 3
    values = np.random.default_rng(0).standard_normal(n)
    X = Guarded(values.reshape(1, n), real(core))
    assert core.find_not_finite(X.array) == (-1, abs(X.array).max())
    for place in (0, 1, *(k * core.LANES + d for k in (1, 16, 17, 32, 33, 40) for d in (-1, 0, 1)), n - 1):
        for bad in (np.nan, np.inf):
            X.array[...] = values
            X.array[0, place] = bad
            X.array[0, min(place + 20, n - 1)] = bad
            assert core.find_not_finite(X.array) == (place, abs(X.array[0, :place]).max(initial=0))


def test_first_not_finite_takes_every_finite_number(core):
    kind = np.finfo(real(core))
    values = [kind.max, -kind.max, kind.tiny, kind.smallest_subnormal, 0.0, -0.0] * 30
    values = np.array(values, real(core)).reshape(-1, 4)
    assert core.find_not_finite(values)[0] == -1
    values.flags.writeable = False
    assert core.find_not_finite(values)[0] == -1


def test_names_and_sizes(core):
    assert core.ACTIVATIONS == NAMES
    assert {4: "f32", 8: "f64"}[core.REAL_BYTES] == core.__name__[-3:]
    assert core.LANES * core.REAL_BYTES in (16, 32, 64) or core.LANES == 1


def test_chains_that_measure_the_peak_are_all_there(core):
    # a chain of which the compiler knows that it stays where it began is not computed: that it cannot know of arguments
    chains = core.TILE[0] * core.TILE[1]
    assert core.multiply_adds(3, 2.0, 1.0) == core.LANES * sum(8 * j + 7 for j in range(chains))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 16, 21, 64])
@pytest.mark.parametrize(("key", "row", "share"), [(0, 0, 0.5), (2**64 - 1, 77, 0.1), (3**40, 10**6, 0.999)])
def test_a_mask_of_dropout_is_what_its_hash_says(core, n, key, row, share):
    def mixed(z):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    of_row = mixed((key + row * 0x9E3779B97F4A7C15) % 2**64)
    low, high = of_row % 2**32, of_row >> 32
    kept = []
    for unit in range(n):
        x = unit * 0x9E3779B9 % 2**32 ^ low
        x = ((x ^ x >> 16) * 0x7FEB352D + high) % 2**32
        x = (x ^ x >> 15) * 0x846CA68B % 2**32
        kept.append((x ^ x >> 16) >= int(share * 2**32))
    mask = Guarded(np.full(n, np.nan), real(core))
    core.dropout_mask(key, row, share, mask.array)
    assert mask.intact()
    assert mask.array.tolist() == np.where(kept, real(core).type(1 / (1 - share)), 0).tolist()
