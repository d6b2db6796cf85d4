"""Comparison of training with PyTorch, step by step, and with duplicated rows, known minima and NumPy.

Two trajectories agree to the last digits only if rounding errors do not grow. The following choices ensure this.

- Learning rates: inputs lie within -1 to 1 and weights are Glorot's or He's, so the curvature of a mean loss is about
  1. Gradient descent takes lr = 0.05 (0.005 with a momentum of 0.9, which multiplies steps by 10), far below
  2 / curvature, and 100 steps go no further than 5 units of time. The others move each parameter by about lr per
  step, so by less than 1 in total. For losses that are sums, lr is divided by the number of terms.
- Vanishing gradients: Adam and similar optimizers divide a gradient by its own size, so a vanished gradient yields only
  rounding errors. Targets are random, so no network fits them and gradients do not vanish. A gradient that is always
  clipped balances the decay at the weight clip_value / weight_decay, which is larger than any weight here.
- Kinks: a derivative may jump (relu, leaky_relu, mae, quantile, hinge, the signs in l1 and Rprop). Two runs diverge if
  they are on different sides of a kink. The PyTorch run records its smallest distance from a kink; the few examples
  with a distance below the rounding error are discarded.
- Chaos: the steps of Adam and similar optimizers do not shrink with the gradient. They may circle around a minimum and
  amplify rounding errors. If the runs differ, the PyTorch run is repeated from parameters that differ by a few rounding
  errors; if its two results differ as well, the example is discarded.
- Tolerance: it is relative to the norm of all parameters, and for losses to the largest loss of the run.
"""

from functools import partial
from itertools import zip_longest
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nnc
from nnc import NeuralNetwork
from nnc._registry import losses
from nnc._registry.activations import HIDDEN
from nnc._registry.optimizers import ROWS
from nnc.layers import AvgPool2D, Conv2D, Dense, GlobalAvgPool2D, Input, MaxPool2D

torch = pytest.importorskip("torch")
from torch_functions import torch_activation  # noqa: E402 (needs torch)

nn, optim, schedulers = torch.nn, torch.optim, torch.optim.lr_scheduler
# Some random settings train badly, which gives a warning.
pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")

STEPS = 100
# One random example for each loss and optimizer; more in the profile "search".
N_EXAMPLES = max(1, settings().max_examples // 60)
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
# Rounding cannot move an output across a kink that is farther away than this.
MIN_KINK_DISTANCE = {"float64": 1e-9, "float32": 1e-5}


@pytest.fixture(autouse=True, scope="module")
def _double_precision():
    """Set PyTorch's default dtype to float64: it stores scalars such as NAdam's product of momenta in that dtype."""
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(before)
    torch.set_num_threads(threads)


# ------------------------------------------------------------------------------------------------- losses


def loss_from_formula(terms):
    """Return a constructor of a loss with PyTorch's interface: reduction first, then outputs and targets."""

    def module(reduction):
        def loss(P, Y):
            values = terms(P, Y)
            return values if reduction == "none" else getattr(values, reduction)()

        return loss

    return module


def log_cosh(P, Y):
    return torch.log(torch.cosh(P - Y))


def pinball(P, Y, tau):
    return torch.maximum(tau * (Y - P), (tau - 1) * (Y - P))


def hinge(P, Y):
    return torch.clamp(1 - Y * P, min=0)


def poisson(reduction):
    return nn.PoissonNLLLoss(log_input=True, full=False, reduction=reduction)


class Case:
    """A loss in nnc and in PyTorch, with the kind of its targets and the distance of outputs from a kink."""

    def __init__(self, in_nnc, in_torch, targets="numbers", from_logits=False, kink=None):
        self.in_nnc, self.in_torch, self.targets = in_nnc, in_torch, targets
        self.from_logits, self.kink = from_logits, kink
        self.name = in_nnc if isinstance(in_nnc, str) else in_nnc.name
        self.is_sum = self.name in ("sse", "half_sse")
        self.requires_output = self.name in ("bce", "cross_entropy", "poisson")  # the loss fixes the output activation

    def draw(self, rng, rows, n_out, dtype="float64"):
        if self.targets == "labels":
            return rng.integers(0, n_out, rows)
        if self.targets == "probabilities":
            Y = rng.uniform(0.1, 1, (rows, n_out))
            return (Y / Y.sum(axis=1, keepdims=True)).astype(dtype)
        if self.targets == "signs":
            return rng.choice([-1.0, 1.0], (rows, n_out)).astype(dtype)
        if self.targets == "counts":
            return rng.poisson(2, (rows, n_out)).astype(dtype)
        if self.targets == "shares":
            return rng.uniform(0, 1, (rows, n_out)).astype(dtype)
        return rng.normal(size=(rows, n_out)).astype(dtype)

    def loss(self, out, Y, w=None):
        if w is None:
            return self.in_torch("sum" if self.is_sum else "mean")(out, Y)
        rows = self.in_torch("none")(out, Y)
        if rows.ndim == 2:
            rows = rows.sum(1) if self.is_sum else rows.mean(1)
        return (w * rows).sum() / (1 if self.is_sum else w.sum())


def error(P, Y):
    return (P - Y).abs()


CASES = {
    "sse": Case("sse", loss_from_formula(lambda P, Y: (P - Y) ** 2)),
    "half_sse": Case("half_sse", loss_from_formula(lambda P, Y: (P - Y) ** 2 / 2)),
    "mse": Case("mse", lambda reduction: nn.MSELoss(reduction=reduction)),
    "mae": Case("mae", lambda reduction: nn.L1Loss(reduction=reduction), kink=error),
    "huber": Case(nnc.Huber(0.6), lambda reduction: nn.HuberLoss(delta=0.6, reduction=reduction)),
    "log_cosh": Case("log_cosh", loss_from_formula(log_cosh)),
    "quantile": Case(nnc.Quantile(0.3), loss_from_formula(partial(pinball, tau=0.3)), kink=error),
    "hinge": Case("hinge", loss_from_formula(hinge), "signs", kink=lambda P, Y: (1 - Y * P).abs()),
    "poisson": Case("poisson", poisson, "counts", True),
    "bce": Case("bce", lambda reduction: nn.BCEWithLogitsLoss(reduction=reduction), "shares", True),
    **{
        f"cross_entropy of {'smoothed ' if smoothing else ''}{targets}": Case(
            nnc.CrossEntropy(smoothing),
            partial(lambda reduction, s: nn.CrossEntropyLoss(label_smoothing=s, reduction=reduction), s=smoothing),
            targets,
            True,
        )
        for targets in ("labels", "probabilities")
        for smoothing in (0.0, 0.15)
    },
}


def test_each_loss_has_a_case():
    assert {case.name for case in CASES.values()} == set(losses.NAMES)


# --------------------------------------------------------------------------------------------- optimizers

# For each optimizer: the class in nnc, the class in PyTorch, and the learning rate.
OPTIMIZERS = {
    "sgd": (partial(nnc.SGD), partial(optim.SGD), 0.05),
    "momentum": (partial(nnc.SGD, momentum=0.9), partial(optim.SGD, momentum=0.9), 0.005),
    "nesterov": (
        partial(nnc.SGD, momentum=0.85, nesterov=True),
        partial(optim.SGD, momentum=0.85, nesterov=True),
        0.005,
    ),
    "adam": (partial(nnc.Adam, betas=(0.8, 0.99)), partial(optim.Adam, betas=(0.8, 0.99)), 0.003),
    "adamw": (partial(nnc.AdamW), partial(optim.AdamW), 0.003),
    "rmsprop": (partial(nnc.RMSprop, alpha=0.95), partial(optim.RMSprop, alpha=0.95), 0.002),
    "rmsprop with momentum": (partial(nnc.RMSprop, momentum=0.8), partial(optim.RMSprop, momentum=0.8), 0.0005),
    "adagrad": (partial(nnc.Adagrad, lr_decay=0.02), partial(optim.Adagrad, lr_decay=0.02), 0.02),
    "rprop": (partial(nnc.Rprop, step_sizes=(1e-5, 0.1)), partial(optim.Rprop, step_sizes=(1e-5, 0.1)), 0.01),
}


# The other optimizers that PyTorch has are compared with their defaults.
OPTIMIZERS |= {
    name: (partial(kind), partial(getattr(optim, kind.__name__)), kind().lr)
    for name, kind in ROWS.items()
    if kind.first_order and name not in OPTIMIZERS and hasattr(optim, kind.__name__)
}


# ------------------------------------------------------------------------------------ training in PyTorch


class Twin:
    """Copy of a network's parameters in PyTorch, trained by PyTorch's autograd and optimizers."""

    def __init__(self, net, case):
        self.case, self.activations = case, net.activations
        self.W = [torch.tensor(W, requires_grad=True) for W in net.weights]
        self.b = [torch.tensor(b, requires_grad=True) for b in net.biases]
        self.margin = np.inf  # smallest distance of an output from a kink in all steps so far

    @property
    def parts(self):
        """W and b of each layer; b is omitted for layers without a bias."""
        return [part for pair in zip_longest(self.W, self.b) for part in pair if part is not None]

    @property
    def params(self):
        return torch.cat([part.detach().ravel() for part in self.parts]).numpy()

    def record_kink_distance(self, distances):
        """Record the smallest distance from a kink.

        Distances of exactly 0 are ignored: both runs are at the kink, for example with a dead unit's gradient.
        """
        distances = distances.detach().numpy()
        self.margin = np.min(distances, where=distances > 0, initial=self.margin)

    def forward(self, X):
        """Return the outputs, or the logits if PyTorch's loss expects them."""
        for l, W in enumerate(self.W):
            Z = X @ W + self.b[l] if self.b else X @ W
            name = self.activations[l]
            if l == len(self.W) - 1 and self.case.from_logits:
                return Z
            if "relu" in name:
                self.record_kink_distance(Z.abs())
            X = torch_activation(name)(Z)
        return X

    def loss(self, X, Y, w=None):
        out = self.forward(X)
        if self.case.kink is not None:
            self.record_kink_distance(self.case.kink(out, Y))
        return self.case.loss(out, Y, w)

    def optimizer(self, make, lr, weight_decay=None, regularize_bias=False):
        if weight_decay is None:
            return make([*self.W, *self.b], lr=lr, foreach=False)
        groups = [{"params": self.W, "weight_decay": weight_decay}]
        groups.append({"params": self.b, "weight_decay": weight_decay if regularize_bias else 0})
        return make([group for group in groups if group["params"]], lr=lr, foreach=False)

    def fit(
        self,
        X,
        Y,
        w=None,
        *,
        optimizer,
        epochs,
        batch_size,
        l1=0.0,
        l2=0.0,
        clip_norm=None,
        clip_value=None,
        max_norm=None,
        regularize_bias=False,
        after_epoch=None,
    ):
        """Train, and return the loss of each epoch."""
        X, Y = torch.tensor(X), torch.tensor(Y)
        w = None if w is None else torch.tensor(w)
        parts, losses = self.parts, []
        penalized = parts if regularize_bias else self.W
        counts = [len(rows) if w is None else rows.sum().item() for rows in (X if w is None else w).split(batch_size)]
        uses_signs = isinstance(optimizer, optim.Rprop)
        for epoch in range(epochs):
            total = 0.0
            for batch, start in enumerate(range(0, len(X), batch_size)):
                rows = slice(start, start + batch_size)
                loss = self.loss(X[rows], Y[rows], None if w is None else w[rows])
                fraction = counts[batch] / sum(counts)
                total += loss.item() * (1 if self.case.is_sum else fraction)
                if l1 or l2:
                    flat = torch.cat([p.ravel() for p in penalized])
                    magnitudes = flat.abs()
                    penalty = l1 * magnitudes.sum() + l2 * flat.square().sum() / 2
                    total += penalty.item() * fraction
                    loss = loss + penalty
                    if l1:
                        self.record_kink_distance(magnitudes)
                optimizer.zero_grad()
                loss.backward()
                if clip_value is not None:
                    nn.utils.clip_grad_value_(parts, clip_value)
                if clip_norm is not None:
                    nn.utils.clip_grad_norm_(parts, clip_norm)
                if uses_signs:
                    for p in parts:
                        self.record_kink_distance(p.grad.abs())
                optimizer.step()
                if max_norm is not None:
                    with torch.no_grad():
                        for W in self.W:
                            norms = W.norm(dim=0)
                            W *= torch.where(norms > max_norm, max_norm / norms, 1)
            losses.append(total)
            if after_epoch is not None:
                after_epoch(epoch)
        return np.array(losses)


@st.composite
def problems(draw, loss, optimizer, dtype="float64"):
    """Draw a network, data and arguments of fit.

    Hypothesis tries the first of several values first. Each pair of a loss and an optimizer therefore rotates the
    values differently, so that one example of each pair already covers most values.
    """
    case, is_small = CASES[loss], dtype == "float32"
    order_rng = np.random.default_rng(crc32(f"{loss}, {optimizer}".encode()))

    def choose(*values):
        offset = int(order_rng.integers(len(values)))
        return draw(st.sampled_from([*values[offset:], *values[:offset]]))

    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    widths = (5, 9, 3, 8, 1) if is_small else (7, 17, 8, 3, 1, 33)
    n_out = choose(3, 2, 5, 9)
    hidden = [choose(*widths) for _ in range(choose(1, 2, 1, 0) if is_small else choose(1, 2, 3, 1, 2, 0))]
    output = None if case.requires_output else choose(None, "identity", "tanh", None, "sigmoid", "softplus", "softmax")
    sizes = [choose(*widths), *hidden, n_out]
    net = NeuralNetwork(
        sizes,
        activation=[choose(*HIDDEN) for _ in hidden],
        output=output,
        loss=case.in_nnc,
        bias=choose(True, True, False),
        dtype=dtype,
        seed=int(rng.integers(2**63)),
    )
    # Biases start at 0; random ones also test their gradients.
    net.params = net.params + rng.uniform(-0.1, 0.1, net.n_params)
    rows = choose(11, 19, 5) if is_small else choose(23, 40, 17)
    X = rng.uniform(-1, 1, (rows, sizes[0])).astype(dtype)
    y = case.draw(rng, rows, n_out, dtype)
    # With a constant derivative and equal row weights, the terms of a bias gradient may cancel. Rprop would then
    # use the sign of a rounding error.
    weighted = choose(True, False) or (optimizer == "rprop" and case.kink is not None)
    w = rng.uniform(0.2, 2, rows).astype(dtype) if weighted else None
    batch_size = rows if optimizer == "rprop" else choose(rows // 3, rows, 4, rows // 2 + 1)
    options = {
        "clip_norm": choose(None, 0.05, 0.5, 100.0),
        "clip_value": choose(None, 0.03, 10.0),
        "l1": choose(0.0, 0.003),
        "l2": choose(0.01, 0.0),
        "max_norm": choose(None, 0.8),
        "regularize_bias": choose(True, False),
    }
    decay = None if optimizer == "rprop" else choose(0.01, 0.0)
    return SimpleNamespace(net=net, X=X, y=y, w=w, batch_size=batch_size, options=options, decay=decay)


def compare_trajectories(problem, case, optimizer, dtype, steps):
    in_nnc, in_torch, lr = OPTIMIZERS[optimizer]
    net, batch = problem.net, problem.batch_size
    if case.is_sum and optimizer in ("sgd", "momentum", "nesterov"):
        lr /= batch * net.sizes[-1]
    constants = {} if problem.decay is None else {"weight_decay": problem.decay}
    epochs = -(-steps // -(-len(problem.X) // batch))

    def train_in_torch(start):
        twin = Twin(start, case)
        stepper = twin.optimizer(in_torch, lr, problem.decay, problem.options["regularize_bias"])
        data = problem.X, problem.y, problem.w
        return twin, twin.fit(*data, optimizer=stepper, epochs=epochs, batch_size=batch, **problem.options)

    perturbed, (twin, expected) = net.copy(), train_in_torch(net)
    assume(twin.margin > MIN_KINK_DISTANCE[dtype])
    history = net.fit(
        problem.X,
        problem.y,
        sample_weight=problem.w,
        optimizer=in_nnc(lr=lr, **constants),
        epochs=epochs,
        batch_size=batch,
        shuffle=False,
        n_threads=1,
        **problem.options,
    )
    tolerance = TOLERANCE[dtype]
    if max(differences(net.params, history.loss, twin.params, expected)) > tolerance:
        uses_signs = np.where(np.arange(net.n_params) % 2, 1, -1)
        perturbed.params = perturbed.params * (1 + 16 * np.finfo(dtype).eps * uses_signs)
        perturbed_twin, losses = train_in_torch(perturbed)
        assume(max(differences(perturbed_twin.params, losses, twin.params, expected)) < tolerance / 10)
    assert_same_training(net, history, twin, expected, tolerance)


def differences(params, losses, expected_params, expected_losses):
    """Return the largest relative differences of the losses and of the parameters."""
    return (
        np.abs(losses - expected_losses).max() / np.abs(expected_losses).max(),
        np.abs(params - expected_params).max() / np.linalg.norm(expected_params),
    )


def assert_same_training(net, history, twin, losses, tolerance):
    assert history.loss.shape == losses.shape
    loss_difference, param_difference = differences(net.params, history.loss, twin.params, losses)
    assert loss_difference <= tolerance
    assert param_difference <= tolerance


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", CASES)
@settings(max_examples=N_EXAMPLES)
@given(data=st.data())
def test_random_training_matches_pytorch(loss, optimizer, data):
    problem = data.draw(problems(loss, optimizer))
    compare_trajectories(problem, CASES[loss], optimizer, "float64", STEPS)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@settings(max_examples=6 * N_EXAMPLES)
@given(data=st.data())
def test_random_float32_training_matches_pytorch(optimizer, data):
    """Rprop runs only 15 steps, so that most runs have no gradient whose sign is a rounding error."""
    loss = data.draw(st.sampled_from(list(CASES)))
    problem = data.draw(problems(loss, optimizer, "float32"))
    compare_trajectories(problem, CASES[loss], optimizer, "float32", 15 if optimizer == "rprop" else STEPS)


# ------------------------------------------------------------------------------------------------- images

SMOOTH = ("tanh", "silu", "sigmoid", "relu", "gelu")


def window_pairs(max_size):
    return st.tuples(st.integers(1, max_size), st.integers(1, max_size))


@st.composite
def image_layers(draw):
    """Draw compatible layers: convolutions and pools of all shapes, then one or two dense layers."""
    shape = *draw(st.tuples(st.integers(5, 13), st.integers(5, 13))), draw(st.sampled_from([1, 2, 3, 8, 17, 33]))
    layers = [Input(*shape)]
    for _ in range(draw(st.integers(1, 4))):
        size, stride = draw(window_pairs(4)), draw(window_pairs(3))
        if draw(st.sampled_from(["convolution", "convolution", "pool"])) == "pool":
            layer = draw(st.sampled_from([MaxPool2D, AvgPool2D]))(size, draw(st.sampled_from([size, stride])))
        else:
            stride, padding = draw(st.sampled_from([(1, 1), stride])), draw(st.sampled_from(["valid", "same"]))
            filters = draw(st.sampled_from([1, 2, 3, 4, 6, 7, 16, 17, 33]))
            layer = Conv2D(
                filters, size, draw(st.sampled_from(SMOOTH)), stride=stride, padding=padding, bias=draw(st.booleans())
            )
        try:
            shape = layer.output_shape(shape)
        except ValueError:  # the window is larger than the image, so no further layer fits
            break
        layers.append(layer)
    layers += draw(st.sampled_from([[], [GlobalAvgPool2D()], [Dense(9, "tanh")]]))
    return [*layers, draw(st.integers(2, 5))]


class ImageTwin(Twin):
    """Copy of an image network's parameters in PyTorch."""

    def __init__(self, net, case):
        self.case, self.stack, self.margin = case, net.model.stack, np.inf
        self.W = [torch.tensor(W, requires_grad=True) for W in net.weights]
        self.b = [None if b is None else torch.tensor(b, requires_grad=True) for b in net.model.b]

    def forward(self, X):
        """Return the outputs for images with channels last, which PyTorch expects first."""
        X = X.permute(0, 3, 1, 2)
        for layer in self.stack.layers:
            kind = layer.kind
            if isinstance(kind, Conv2D):
                X = self.convolve(X, layer)
            elif isinstance(kind, Dense):
                X = (
                    X @ self.W[layer.parametric_index]
                    if self.b[layer.parametric_index] is None
                    else nn.functional.linear(X, self.W[layer.parametric_index].T, self.b[layer.parametric_index])
                )
            elif isinstance(kind, MaxPool2D):
                self.record_tie_distance(X, kind)
                X = nn.functional.max_pool2d(X, kind.size, kind.stride)
            elif isinstance(kind, AvgPool2D):
                X = nn.functional.avg_pool2d(X, kind.size, kind.stride)
            elif isinstance(kind, GlobalAvgPool2D):
                X = X.mean(dim=(2, 3), keepdim=True)
            else:
                X = X.permute(0, 2, 3, 1).flatten(1)
            if layer.has_parameters and not (layer.parametric_index == len(self.W) - 1 and self.case.from_logits):
                if kind.activation == "relu":
                    self.record_kink_distance(X.abs())
                X = torch_activation(kind.activation)(X)
        return X

    def convolve(self, X, layer):
        """Apply a Conv2D; PyTorch supports "same" padding only for stride 1, so the zeros are added here."""
        kind, W, b = layer.kind, self.W[layer.parametric_index], self.b[layer.parametric_index]
        if kind.padding == "same":
            expected = [
                max(0, (-(-n // s) - 1) * s + k - n)
                for n, s, k in zip(layer.input_shape, kind.stride, kind.size, strict=False)
            ]
            (top, left), (bottom, right) = ([n // 2 for n in expected], [n - n // 2 for n in expected])
            X = nn.functional.pad(X, (left, right, top, bottom))
        kernel = W.reshape(*kind.size, layer.input_shape[2], kind.filters).permute(3, 2, 0, 1).contiguous()
        return nn.functional.conv2d(X, kernel, b, stride=kind.stride)

    def record_tie_distance(self, X, kind):
        """Record the distance between the two largest values of each window: a tie is a kink of max-pooling."""
        windows = nn.functional.unfold(X.detach().flatten(0, 1)[:, None], kind.size, stride=kind.stride)
        if windows.shape[1] > 1:
            largest_two = windows.topk(2, dim=1).values
            self.record_kink_distance(largest_two[:, 0] - largest_two[:, 1])


@st.composite
def image_problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    loss = draw(st.sampled_from(["mse", "cross_entropy of labels", "huber"]))
    layers, rows = draw(image_layers()), draw(st.integers(1, 33))
    net = NeuralNetwork(layers, loss=CASES[loss].in_nnc, seed=int(rng.integers(2**63)))
    # Biases start at 0; random ones also test their gradients.
    net.params = net.params + rng.uniform(-0.1, 0.1, net.n_params)
    X = rng.uniform(-1, 1, (rows, *net.model.input_shape))
    return SimpleNamespace(net=net, case=CASES[loss], X=X, y=CASES[loss].draw(rng, rows, net.sizes[-1]))


@settings(max_examples=60 * N_EXAMPLES)
@given(problem=image_problems())
def test_outputs_loss_and_gradients_of_images_match_pytorch(problem):
    net, X, Y = problem.net, torch.tensor(problem.X, requires_grad=True), torch.tensor(problem.y)
    twin = ImageTwin(net, problem.case)
    out = twin.forward(X)
    loss = twin.loss(X, Y)
    assume(twin.margin > MIN_KINK_DISTANCE["float64"])
    if problem.case.from_logits:
        out = torch.softmax(out, dim=1)
    assert np.abs(net.predict(problem.X) - out.detach().numpy()).max() <= 1e-12
    assert net.evaluate_loss(problem.X, problem.y) == pytest.approx(loss.item(), rel=1e-12)
    loss.backward()
    actual = [part for pair in net.gradients(problem.X, problem.y) for part in pair if part is not None]
    actual.append(nnc.input_gradients(net, problem.X, problem.y))
    for part, expected in zip(actual, [*(part.grad for part in twin.parts), X.grad], strict=True):
        assert np.abs(part - expected.numpy()).max() <= 1e-10 * max(expected.abs().max().item(), 1e-3)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
@settings(max_examples=30 * N_EXAMPLES)
@given(problem=image_problems(), parts=st.integers(1, 3))
def test_random_training_on_images_matches_pytorch(optimizer, problem, parts):
    """Train for at least 20 steps, in complete epochs."""
    net, (in_nnc, in_torch, lr) = problem.net, OPTIMIZERS[optimizer]
    batch = -(-len(problem.X) // parts)
    epochs = -(-20 // -(-len(problem.X) // batch))
    twin = ImageTwin(net, problem.case)
    stepper = in_torch(twin.parts, lr=lr, foreach=False)
    losses = twin.fit(problem.X, problem.y, optimizer=stepper, epochs=epochs, batch_size=batch)
    assume(twin.margin > MIN_KINK_DISTANCE["float64"])
    history = net.fit(problem.X, problem.y, optimizer=in_nnc(lr=lr), epochs=epochs, batch_size=batch, shuffle=False)
    assert_same_training(net, history, twin, losses, TOLERANCE["float64"])


# ---------------------------------------------------------------------------------------------- schedules

EPOCHS = 30


def one_cycle(optimizer):
    return schedulers.OneCycleLR(
        optimizer, 0.1, total_steps=EPOCHS, pct_start=0.25, div_factor=10, final_div_factor=50, cycle_momentum=False
    )


# For each schedule: the class in nnc, and PyTorch's schedulers, which are stepped together.
SCHEDULES = {
    "step": (nnc.StepLR(0.1, 7, gamma=0.5), [lambda o: schedulers.StepLR(o, 7, gamma=0.5)]),
    "exponential": (nnc.ExponentialLR(0.1, 0.93), [lambda o: schedulers.ExponentialLR(o, 0.93)]),
    "cosine": (nnc.CosineLR(0.1, min_lr=0.01), [lambda o: schedulers.CosineAnnealingLR(o, EPOCHS, 0.01)]),
    "one cycle": (nnc.OneCycleLR(0.1, pct_start=0.25, div_factor=10, final_div_factor=50), [one_cycle]),
    "warm-up": (
        nnc.Warmup(nnc.Constant(0.1), 6, start_factor=0.2),
        [lambda o: schedulers.LinearLR(o, start_factor=0.2, total_iters=6)],
    ),
    "warm-up and step": (
        nnc.Warmup(nnc.StepLR(0.1, 8), 6),
        [lambda o: schedulers.StepLR(o, 8), lambda o: schedulers.LinearLR(o, total_iters=6)],
    ),
}
SCHEDULED = {name: OPTIMIZERS[name] for name in ("sgd", "adamw", "nadam")}


def regression(seed=0, rows=26):
    rng = np.random.default_rng(seed)
    net = NeuralNetwork([4, 9, 3], activation="tanh", loss="mse", seed=seed)
    return net, rng.uniform(-1, 1, (rows, 4)), rng.normal(size=(rows, 3))


@pytest.mark.parametrize("optimizer", SCHEDULED)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule_matches_pytorch(schedule, optimizer):
    in_nnc, in_torch = SCHEDULES[schedule]
    make, make_torch, _ = SCHEDULED[optimizer]
    net, X, y = regression()
    twin, learning_rates = Twin(net, CASES["mse"]), []
    stepper = twin.optimizer(make_torch, 0.1, weight_decay=0.02)
    stepped = [scheduler(stepper) for scheduler in in_torch]

    def after_epoch(epoch):
        learning_rates.append(current["lr"])
        if epoch < EPOCHS - 1:  # OneCycleLR has no learning rate after the last epoch
            for scheduler in stepped:
                scheduler.step()
        current["lr"] = stepper.param_groups[0]["lr"]

    current = {"lr": stepper.param_groups[0]["lr"]}
    losses = twin.fit(X, y, optimizer=stepper, epochs=EPOCHS, batch_size=9, after_epoch=after_epoch)
    history = net.fit(X, y, epochs=EPOCHS, lr=in_nnc, optimizer=make(weight_decay=0.02), batch_size=9, shuffle=False)
    assert history.lr == pytest.approx(np.array(learning_rates), rel=1e-13, abs=1e-17)
    assert_same_training(net, history, twin, losses, 1e-10)


@pytest.mark.parametrize(("patience", "threshold", "min_lr"), [(0, 1e-2, 0), (1, 1e-3, 1e-3), (2, 0.02, 0)])
def test_reduce_on_plateau_matches_pytorch(patience, threshold, min_lr):
    net, X, y = regression(3)
    X_val, y_val = X[:8] + 0.1, y[:8]
    twin, learning_rates, validation = Twin(net, CASES["mse"]), [], []
    stepper = twin.optimizer(optim.SGD, 0.3)
    constants = {"factor": 0.4, "patience": patience, "threshold": threshold, "min_lr": min_lr}
    scheduler = schedulers.ReduceLROnPlateau(stepper, **constants)

    def after_epoch(epoch):
        learning_rates.append(stepper.param_groups[0]["lr"])
        with torch.no_grad():
            validation.append(twin.loss(torch.tensor(X_val), torch.tensor(y_val)).item())
        scheduler.step(validation[-1])

    losses = twin.fit(X, y, optimizer=stepper, epochs=80, batch_size=9, after_epoch=after_epoch)
    assert len(set(learning_rates)) > 2, "the learning rate must be reduced twice"
    history = net.fit(
        X,
        y,
        epochs=80,
        lr=nnc.ReduceLROnPlateau(0.3, **constants),
        optimizer="sgd",
        batch_size=9,
        shuffle=False,
        validation=(X_val, y_val),
    )
    assert history.lr == pytest.approx(np.array(learning_rates), rel=1e-14, abs=0)
    assert history.val_loss == pytest.approx(np.array(validation), rel=1e-11)
    assert_same_training(net, history, twin, losses, 1e-10)


@pytest.mark.parametrize("lr", [0.02, nnc.StepLR(0.02, 5), lambda epoch: 0.02])
def test_rprop_initial_step_size_is_learning_rate_of_first_epoch(lr):
    """The learning rate may be a number, a schedule or a function; Rprop ignores later values, as in PyTorch."""
    net, X, y = regression()
    twin = Twin(net, CASES["mse"])
    stepper = twin.optimizer(optim.Rprop, 0.02)
    losses = twin.fit(X, y, optimizer=stepper, epochs=20, batch_size=len(X))
    history = net.fit(X, y, epochs=20, lr=lr, optimizer="rprop")
    assert_same_training(net, history, twin, losses, 1e-12)


# ---------------------------------------------------------------------------------- weights of rows and classes


def copies_of_rows(loss, dtype="float64", activation="tanh"):
    """Return a network, rows with integer weights, and the rows repeated by their weights."""
    rng = np.random.default_rng(5)
    case = CASES[loss]
    X, y = rng.uniform(-1, 1, (21, 4)).astype(dtype), case.draw(rng, 21, 3, dtype)
    k = rng.integers(0, 4, 21)
    assert {0, 1, 2, 3} <= set(k)
    net = NeuralNetwork([4, 9, 6, 3], activation=activation, loss=case.in_nnc, dtype=dtype, seed=2)
    return net, X, y, k, np.repeat(X, k, axis=0), np.repeat(y, k, axis=0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", CASES)
def test_integer_row_weight_equals_repeated_rows(isa, loss, dtype):
    net, X, y, k, X_all, y_all = copies_of_rows(loss, dtype)
    eps = float(np.finfo(dtype).eps)
    # the tolerance covers sums of about 20 terms; the terms of poisson have both signs
    assert net.evaluate_loss(X, y, k) == pytest.approx(net.evaluate_loss(X_all, y_all), rel=8 * eps, abs=8 * eps)
    pairs = zip(net.gradients(X, y, k), net.gradients(X_all, y_all), strict=True)
    actual, expected = (np.concatenate([np.vstack(pair).ravel() for pair in side]) for side in zip(*pairs, strict=True))
    assert np.abs(actual - expected).max() <= 8 * eps * np.abs(expected).max()
    assert np.count_nonzero(expected) > 80


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rprop"])
@pytest.mark.parametrize("loss", CASES)
def test_training_on_weighted_rows_equals_training_on_repeated_rows(loss, optimizer):
    """Train with row weights; losses with a constant derivative use adagrad instead of rprop.

    Their bias gradient may be exactly 0 up to rounding, so that Rprop would use the sign of a rounding error.
    """
    if optimizer == "rprop" and CASES[loss].kink is not None:
        optimizer = "adagrad"
    net, X, y, k, X_all, y_all = copies_of_rows(loss)
    other = net.copy()
    arguments = {
        "epochs": 100,
        "lr": 0.0005 if CASES[loss].is_sum else 0.01,
        "optimizer": optimizer,
        "clip_norm": 0.3,
        "l1": 0.001,
        "l2": 0.01,
    }
    history = net.fit(X, y, sample_weight=k, **arguments)
    expected = other.fit(X_all, y_all, **arguments)
    assert np.abs(history.loss - expected.loss).max() <= 1e-12 * np.abs(expected.loss).max()
    assert np.abs(net.params - other.params).max() <= 1e-12 * np.linalg.norm(other.params)


CLASSES = {  # network, labels and weights of the classes
    "labels": ([4, 7, 3], "cross_entropy", [0, 1, 2], {0: 0.3, 2: 7}),
    "names": ([4, 7, 3], "cross_entropy", ["one", "three", "two"], {"two": 0.25, "one": 1 / 3}),
    "smoothed": ([4, 7, 3], nnc.CrossEntropy(0.1), [0, 1, 2], {1: 1.7}),
    "two classes": ([4, 7, 1], "bce", [0, 1], {0: 1.1, 1: 0.7}),
    "two names": ([4, 7, 1], "bce", ["no", "yes"], {"yes": 3.3}),
    "signs": ([4, 7, 1], "hinge", [-1, 1], {-1: 0.9, 1: 0.1}),
    "signs of several": ([4, 7, 3], "hinge", [0, 1, 2], {0: 3, 1: 0.2}),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("with_rows", [False, True])
@pytest.mark.parametrize("kind", CLASSES)
def test_class_weight_equals_row_weights(kind, with_rows, balanced, dtype):
    sizes, loss, classes, weights = CLASSES[kind]
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, (37, 4))
    y = np.array(classes)[np.minimum(rng.integers(0, 2 * len(classes), 37), len(classes) - 1)]
    counts = {label: np.count_nonzero(y == label) for label in classes}
    if balanced:
        weights = {label: 37 / (len(classes) * counts[label]) for label in classes}
    explicit = np.array([weights.get(label, 1.0) for label in y.tolist()])
    rows = rng.uniform(0.1, 2, 37).astype(dtype) if with_rows else None
    net = NeuralNetwork(sizes, loss=loss, dtype=dtype, seed=3)
    other = net.copy()
    arguments = {"epochs": 10, "lr": 0.02, "optimizer": "adam", "batch_size": 8, "l2": 0.01}
    class_weight = "balanced" if balanced else weights
    history = net.fit(X, y, class_weight=class_weight, sample_weight=rows, **arguments)
    expected = other.fit(X, y, sample_weight=explicit if rows is None else explicit * rows, **arguments)
    assert np.array_equal(history.loss, expected.loss)
    assert np.array_equal(net.params, other.params)
    unweighted = NeuralNetwork(sizes, loss=loss, dtype=dtype, seed=3)
    unweighted.fit(X, y, sample_weight=rows, **arguments)
    assert not np.array_equal(unweighted.params, net.params)


# ------------------------------------------------------------------------------------- Rprop and known minima


@pytest.mark.parametrize("target", [[3.0, -2.0, 0.5, 1e-3], [40.0, -0.1, 0.0, 7.0]])
@pytest.mark.parametrize("optimizer", ["rprop", nnc.Rprop(lr=1.0), nnc.Rprop(etas=(0.3, 1.4), step_sizes=(1e-8, 5))])
def test_rprop_finds_minimum_of_quadratic(optimizer, target):
    """Minimize the sum of curvature * (w - target)**2 / 2 with curvatures from 1e-4 to 100."""
    roots = np.array([0.01, 0.5, 2.0, 10.0])
    net = NeuralNetwork([4, 1], output="identity", loss="half_sse", bias=False, seed=0)
    history = net.fit(np.diag(roots), roots * target, epochs=400, optimizer=optimizer)
    assert net.weights[0][:, 0] == pytest.approx(np.array(target), abs=2e-6)
    assert history.loss[-1] < 1e-9


@pytest.mark.parametrize("loss", ["mse", "sse"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rprop_finds_least_squares_solution(loss, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 5)) + 0.3
    y = X @ rng.normal(size=(5, 2)) + rng.normal(size=(60, 2))
    expected, squares = np.linalg.lstsq(np.column_stack([X, np.ones(60)]), y, rcond=None)[:2]
    net = NeuralNetwork([5, 2], output="identity", loss=loss, seed=seed)
    history = net.fit(X, y, epochs=2000, optimizer=nnc.Rprop(step_sizes=(1e-9, 50)))
    assert np.vstack([net.weights[0], net.biases[0]]) == pytest.approx(expected, abs=1e-6)
    assert history.loss[-1] == pytest.approx(squares.sum() / (120 if loss == "mse" else 1), rel=1e-12)


# ------------------------------------------------------------------------------------------------- dropout


def dropout_masks(seed, step, layer, rows, units, dropout_rate, n_threads=1, dtype="float64"):
    """Return the dropout mask (rows, units) of a hidden layer in a step (from 0), computed from a weight update.

    The layer outputs ones for any input. The network outputs 0 and the target is minus the identity matrix, so delta of
    half_sse is the identity matrix. The gradient of the last weights is therefore the transposed layer output.
    """
    sizes = [1, *[1] * layer, units, rows]
    net = NeuralNetwork(sizes, activation="identity", output="identity", loss="half_sse", dtype=dtype, seed=seed)
    net.params = np.zeros(net.n_params)
    X, Y = np.ones((rows, 1)), -np.eye(rows)
    dropout = [*[0.0] * layer, dropout_rate]
    if step:
        net.fit(X[:1], Y[:1], epochs=step, lr=1e-3, dropout=dropout)
        net.params = np.zeros(net.n_params)
    net.biases[layer][:] = 1
    net.fit(X, Y, epochs=1, lr=1.0, dropout=dropout, n_threads=n_threads)
    return -net.weights[-1].T.copy()


def is_near(dropout_rate, expected, count, sigmas=4):
    return abs(dropout_rate - expected) < sigmas * np.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize("dropout_rate", [0.1, 0.5, 0.8])
def test_fraction_of_dropped_units_is_dropout_rate(isa, dropout_rate):
    mask = dropout_masks(7, 0, 0, 300, 200, dropout_rate)
    is_active = mask != 0
    assert np.array_equal(np.unique(mask), [0, 1 / (1 - dropout_rate)])
    assert is_near(is_active.mean(), 1 - dropout_rate, is_active.size)
    # The fractions of single rows and units deviate by less than 5 standard deviations.
    assert all(is_near(mean, 1 - dropout_rate, 200, 5) for mean in is_active.mean(axis=1))
    assert all(is_near(mean, 1 - dropout_rate, 300, 5) for mean in is_active.mean(axis=0))


def test_masks_of_seeds_steps_layers_rows_and_units_are_independent():
    """Two masks agree as often as independent random masks."""
    first = dropout_masks(7, 0, 0, 200, 100, 0.3) != 0
    others = {
        "seed": dropout_masks(8, 0, 0, 200, 100, 0.3),
        "step": dropout_masks(7, 1, 0, 200, 100, 0.3),
        "later step": dropout_masks(7, 5, 0, 200, 100, 0.3),
        "layer": dropout_masks(7, 0, 1, 200, 100, 0.3),
        "row": np.roll(first, 1, axis=0),
        "unit": np.roll(first, 1, axis=1),
    }
    for name, other in others.items():
        assert is_near((first == (other != 0)).mean(), 0.7**2 + 0.3**2, first.size), name


def test_mask_depends_only_on_seed_step_layer_row_and_unit(isa):
    mask = dropout_masks(7, 2, 1, 700, 40, 0.4)  # 700 rows are several blocks of 256 rows
    for n_threads in (2, 3):
        assert np.array_equal(dropout_masks(7, 2, 1, 700, 40, 0.4, n_threads), mask)
    assert np.array_equal(dropout_masks(7, 2, 1, 700, 40, 0.4, dtype="float32") != 0, mask != 0)
    assert np.array_equal(dropout_masks(7, 2, 1, 100, 40, 0.4), mask[:100])
    assert np.array_equal(dropout_masks(7, 2, 1, 700, 23, 0.4), mask[:, :23])
    # A unit that survives a dropout rate of 0.4 also survives 0.3.
    assert (dropout_masks(7, 2, 1, 100, 40, 0.3)[mask[:100] != 0] != 0).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch_size", [16, 700])
def test_dropout_does_not_depend_on_thread_count(isa, batch_size, dtype):
    """Train with batches of 16 rows and of 700 rows, which span several blocks."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, (700, 6)).astype(dtype), rng.integers(0, 4, 700)
    actual = []
    for n_threads in (1, 2, 3):
        net = NeuralNetwork([6, 90, 50, 4], activation="relu", loss="cross_entropy", dtype=dtype, seed=5)
        epochs = 1 if batch_size == 16 else 8
        arguments = {"epochs": epochs, "lr": 0.1, "batch_size": batch_size, "dropout": (0.2, 0.5)}
        history = net.fit(X, y, n_threads=n_threads, **arguments)
        actual.append(net.params.tobytes() + history.loss.tobytes())
    assert actual[0] == actual[1] == actual[2]


@pytest.mark.parametrize(("rows", "batch_size"), [(26, 26), (26, 8), (700, 700)])
def test_dropout_training_matches_numpy(isa, rows, batch_size):
    """Compare some steps of gradient descent in NumPy that use the masks of `masks`."""
    dropout_rates, lr, seed = (0.25, 0.5), 0.3, 11
    rng = np.random.default_rng(2)
    X, Y = rng.uniform(-1, 1, (rows, 5)), rng.normal(size=(rows, 4))
    net = NeuralNetwork([5, 33, 17, 4], activation=["tanh", "softplus"], loss="mse", seed=seed)
    net.params = net.params + rng.uniform(-0.1, 0.1, net.n_params)
    W1, b1, W2, b2, W3, b3 = (part.copy() for layer in net.layers for part in (layer.W, layer.b))
    total, step = 0.0, 0
    for _ in range(2):
        total = 0.0
        for start in range(0, rows, batch_size):
            x, y = X[start : start + batch_size], Y[start : start + batch_size]
            M1, M2 = (dropout_masks(seed, step, l, len(x), n, dropout_rates[l]) for l, n in enumerate((33, 17)))
            A1 = np.tanh(x @ W1 + b1)
            Z2 = (A1 * M1) @ W2 + b2
            A2 = np.log1p(np.exp(Z2))
            P = (A2 * M2) @ W3 + b3
            total += ((P - y) ** 2).mean() * len(x) / rows
            D3 = 2 * (P - y) / y.size
            D2 = D3 @ W3.T * M2 / (1 + np.exp(-Z2))
            D1 = D2 @ W2.T * M1 * (1 - A1**2)
            gradients = x.T @ D1, D1.sum(0), (A1 * M1).T @ D2, D2.sum(0), (A2 * M2).T @ D3, D3.sum(0)
            for part, gradient in zip((W1, b1, W2, b2, W3, b3), gradients, strict=True):
                part -= lr * gradient
            step += 1
    history = net.fit(X, Y, epochs=2, lr=lr, batch_size=batch_size, shuffle=False, dropout=dropout_rates)
    assert history.loss[-1] == pytest.approx(total, rel=1e-13)
    actual = [part for layer in net.layers for part in (layer.W, layer.b)]
    for part, expected in zip(actual, (W1, b1, W2, b2, W3, b3), strict=True):
        assert np.abs(part - expected).max() < 1e-13


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("zero_dropout", [0.0, 0, (0.0, 0.0)])
def test_zero_dropout_equals_no_dropout(zero_dropout, optimizer):
    actual = []
    for arguments in ({}, {"dropout": zero_dropout}):
        rng = np.random.default_rng(0)
        net = NeuralNetwork([3, 20, 9, 2], loss="mse", seed=1)
        X, y = rng.uniform(-1, 1, (50, 3)), rng.normal(size=(50, 2))
        history = net.fit(X, y, epochs=20, lr=0.02, optimizer=optimizer, batch_size=7, **arguments)
        actual.append((net.params.tobytes(), history.loss.tobytes()))
    assert actual[0] == actual[1]


def test_dropout_affects_only_training():
    """predict, evaluate_loss, gradients, score, forward and the validation loss ignore dropout."""
    rng = np.random.default_rng(0)
    net = NeuralNetwork([3, 20, 2], activation="tanh", loss="mse", seed=1)
    X, y = rng.uniform(-1, 1, (50, 3)), rng.normal(size=(50, 2))
    val_losses = []

    def check_record(record):
        network = record.network
        twin = NeuralNetwork([3, 20, 2], activation="tanh", loss="mse", init=network.weights)
        twin.biases = network.biases
        assert np.array_equal(network.predict(X), twin.predict(X))
        assert np.array_equal(network.forward(X)[0], twin.forward(X)[0])
        assert network.evaluate_loss(X, y) == twin.evaluate_loss(X, y)
        assert network.score(X, y) == twin.score(X, y)
        for (dW, db), (dW_twin, db_twin) in zip(network.gradients(X, y), twin.gradients(X, y), strict=True):
            assert np.array_equal(dW, dW_twin)
            assert np.array_equal(db, db_twin)
        val_losses.append(twin.evaluate_loss(X, y))

    check_record.every = 1
    history = net.fit(X, y, epochs=5, lr=0.01, dropout=0.5, validation=(X, y), callback=check_record)
    assert np.array_equal(history.val_loss, val_losses)
    assert len(set(history.loss - [net.evaluate_loss(X, y)])) == 5
    check_record(SimpleNamespace(network=net))


def test_random_numbers_never_repeat_between_fits():
    """Masks and row orders are never reused, whatever happens between two fits."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, (50, 3)), rng.normal(size=(50, 2))
    one_fit, three_fits, other = (NeuralNetwork([3, 20, 2], loss="mse", seed=1) for _ in range(3))
    arguments = {"lr": 0.01, "batch_size": 8, "dropout": 0.5}
    one_fit.fit(X, y, epochs=6, optimizer="adam", **arguments)
    for epochs in (1, 2, 3):
        three_fits.fit(X, y, epochs=epochs, optimizer="adam" if epochs == 1 else None, **arguments)
    assert np.array_equal(one_fit.params, three_fits.params)

    start, losses = other.params, set()
    between = [
        lambda: None,
        lambda: other.train_step(X, y),
        lambda: other.fit(X, y, epochs=1),
        lambda: other.fit(X, y, epochs=1, batch_size=8),
        lambda: other.fit_batches([(X, y)]),
    ]
    for action in between:
        other.params = start
        losses.add(other.fit(X, y, epochs=1, optimizer="sgd", **{**arguments, "dropout": 0.0}).loss[0])
        action()
        other.params = start
        losses.add(other.fit(X, y, epochs=1, optimizer="sgd", **{**arguments, "dropout": 0.0}).loss[0])
    assert len(losses) == 2 * len(between), "an order of rows was reused"

    losses.clear()
    for action in between:
        other.params = start
        losses.add(other.fit(X, y, epochs=1, optimizer="sgd", lr=0.01, dropout=0.5).loss[0])
        action()
        other.params = start
        losses.add(other.fit(X, y, epochs=1, optimizer="sgd", lr=0.01, dropout=0.5).loss[0])
    assert len(losses) == 2 * len(between), "a mask was reused"


def test_memory_map_uses_same_row_orders_and_masks_as_array(tmp_path):
    """Rows that are read batch by batch give the same results, over two fits with a callback."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, (50, 3)).astype("float32"), rng.normal(size=(50, 2))
    mapped = np.memmap(tmp_path / "X", "float32", "w+", shape=X.shape)
    mapped[:] = X
    in_memory, in_file = (NeuralNetwork([3, 20, 2], loss="mse", seed=1) for _ in range(2))
    for epochs in (3, 2):
        arguments = {"epochs": epochs, "lr": 0.05, "batch_size": 8, "dropout": 0.3, "callback": lambda record: None}
        expected = in_memory.fit(X, y, **arguments)
        actual = in_file.fit(mapped, y, **arguments)
        assert actual.loss == pytest.approx(expected.loss, rel=1e-14)
        assert np.array_equal(in_file.params, in_memory.params)


# -------------------------------------------------------------------------- optimizers and thread counts

# Without clip_norm, the engine needs no gradient norm and updates the parameters in strips.
THREADED = {
    "everything": {
        "clip_norm": 0.5,
        "clip_value": 0.2,
        "max_norm": 0.9,
        "l1": 0.001,
        "l2": 0.01,
        "dropout": (0.2, 0.4),
        "regularize_bias": True,
    },
    "no norm": {"max_norm": 0.9, "l1": 0.001, "dropout": 0.3},
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_thread_count_does_not_change_result_of_any_optimizer(isa, optimizer, dtype):
    make, _, lr = OPTIMIZERS[optimizer]
    constants = {} if optimizer == "rprop" else {"weight_decay": 0.02}
    rng = np.random.default_rng(4)
    X, y = rng.uniform(-1, 1, (90, 20)).astype(dtype), rng.normal(size=(90, 5)).astype(dtype)
    w = rng.uniform(0.1, 2, 90)
    for name, extras in THREADED.items():
        actual = set()
        for n_threads in (1, 2, 3, 4, 7):
            net = NeuralNetwork([20, 70, 33, 5], activation=["tanh", "gelu"], loss="huber", dtype=dtype, seed=6)
            batch_size = 90 if optimizer == "rprop" else 40
            history = net.fit(
                X,
                y,
                epochs=2,
                sample_weight=w,
                optimizer=make(lr=lr, **constants),
                batch_size=batch_size,
                n_threads=n_threads,
                **extras,
            )
            actual.add(net.params.tobytes() + history.loss.tobytes())
        assert len(actual) == 1, name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rprop"])
def test_thread_count_does_not_change_batch_of_several_blocks(isa, optimizer):
    make, _, lr = OPTIMIZERS[optimizer]
    rng = np.random.default_rng(4)
    X, y = rng.uniform(-1, 1, (600, 8)), rng.normal(size=(600, 2))
    for extras in THREADED.values():
        actual = set()
        for n_threads in (1, 2, 3, 4, 7):
            net = NeuralNetwork([8, 120, 40, 2], activation="silu", loss="mse", seed=6)
            history = net.fit(X, y, epochs=2, optimizer=make(lr=lr), n_threads=n_threads, **extras)
            actual.add(net.params.tobytes() + history.loss.tobytes())
        assert len(actual) == 1


# ------------------------------------------------------------------------------------------- steps from gradients


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "rprop"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_from_torch_gradients_match_torch_optimizers(name, dtype):
    """PyTorch computes the gradient of two losses; nnc and PyTorch each update their parameters with it."""
    in_nnc, in_torch, _ = OPTIMIZERS[name]
    rng = np.random.default_rng(3)
    net = NeuralNetwork([4, 9, 3], activation="tanh", loss="mse", dtype=dtype, seed=1)
    module = net.to_torch()
    weights = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    biases = {"params": [layer.bias for layer in weights], "weight_decay": 0.0}
    optimizer = in_torch([{"params": [layer.weight for layer in weights]}, biases], lr=0.01)
    step = net.stepper(in_nnc(), 0.01, clip_norm=0.5)
    for _ in range(20):
        X = torch.tensor(rng.uniform(-1, 1, (16, 4)).astype(dtype))
        Y = torch.tensor(rng.uniform(-1, 1, (16, 3)).astype(dtype))
        optimizer.zero_grad()
        P = module(X)
        ((P[:, :2] - Y[:, :2]) ** 2).mean().backward(retain_graph=True)
        torch.cosh(P[:, 2] - Y[:, 2]).sum().backward()
        step.apply([(layer.weight.grad.numpy().T, layer.bias.grad.numpy()) for layer in weights])
        nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizer.step()
        torch_params = [value.detach().numpy() for layer in weights for value in (layer.weight.T, layer.bias)]
        actual = np.concatenate([value.ravel() for value in torch_params])
        assert np.linalg.norm(net.params - actual) <= TOLERANCE[dtype] * np.linalg.norm(actual)
