"""Training against PyTorch, step by step, and against what must be the same: duplicated rows, known minima, NumPy.

A trajectory can be compared to the last digits only where rounding does not grow. These things see to that.

- Learning rates: inputs lie within -1 to 1 and weights are Glorot's or He's, so the curvature of a mean loss is about
  1. Gradient descent takes lr = 0.05 (0.005 with a momentum of 0.9, which multiplies steps by 10), far below
  2 / curvature, and 100 steps go no further than 5 units of time. The others move each parameter by about lr a step
  and so by less than 1 in all. Losses that are sums get lr divided by the terms of the sum.
- Vanishing gradients: Adam and its kin divide a gradient by its own size, which leaves nothing but rounding of one that
  has vanished. Targets are random, so no network fits them; and clip_value / weight_decay, where a gradient that is
  always clipped and the decay are in balance, is larger than any weight.
- Kinks: where a derivative jumps (relu, leaky_relu, mae, quantile, hinge, the sign that l1 and Rprop take), two runs
  part if one of them is a rounding error to the left and the other to the right. PyTorch's run notes how near it has
  come to one; the few examples that come nearer than rounding has grown are given up.
- Chaos: Adam and its kin, whose steps do not shrink with the gradient, may still circle around a minimum in some
  direction and let rounding grow. Where the runs differ, PyTorch's is repeated from parameters a few roundings away; if
  it departs from itself, the example says nothing and is given up.
- Sums: the tolerance is relative to the norm of all parameters, and for losses to the largest of the run.
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
from nnc._registry.activations import HIDDEN
from nnc.layers import AvgPool2D, Conv2D, Dense, GlobalAvgPool2D, Input, MaxPool2D

torch = pytest.importorskip("torch")
from torch_functions import torch_activation  # noqa: E402 (needs torch)

nn, optim, schedulers = torch.nn, torch.optim, torch.optim.lr_scheduler
pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")  # what is drawn here need not be wise

STEPS = 100
FEW = max(1, settings().max_examples // 60)  # examples of each pair of a loss and an optimizer: 1, in a search more
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
SAFE = {"float64": 1e-9, "float32": 1e-5}  # distance from a kink that rounding does not bridge


@pytest.fixture(autouse=True, scope="module")
def _double_precision():
    """PyTorch keeps scalars such as NAdam's product of momenta in the default type."""
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(before)
    torch.set_num_threads(threads)


# ------------------------------------------------------------------------------------------------- losses


def by_formula(terms):
    """A loss as PyTorch's modules are: called with outputs and targets, reduced as asked."""

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
    """A loss: ours, PyTorch's, which targets it takes and how far an output is from a kink."""

    def __init__(self, ours, theirs, targets="numbers", from_logits=False, kink=None):
        self.ours, self.theirs, self.targets, self.from_logits, self.kink = ours, theirs, targets, from_logits, kink
        self.name = ours if isinstance(ours, str) else ours.name
        self.adds_up = self.name in ("sse", "half_sse")
        self.bound = self.name in ("bce", "cross_entropy", "poisson")  # to one output activation

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
            return self.theirs("sum" if self.adds_up else "mean")(out, Y)
        rows = self.theirs("none")(out, Y)
        if rows.ndim == 2:
            rows = rows.sum(1) if self.adds_up else rows.mean(1)
        return (w * rows).sum() / (1 if self.adds_up else w.sum())


def error(P, Y):
    return (P - Y).abs()


CASES = {
    "sse": Case("sse", by_formula(lambda P, Y: (P - Y) ** 2)),
    "half_sse": Case("half_sse", by_formula(lambda P, Y: (P - Y) ** 2 / 2)),
    "mse": Case("mse", lambda reduction: nn.MSELoss(reduction=reduction)),
    "mae": Case("mae", lambda reduction: nn.L1Loss(reduction=reduction), kink=error),
    "huber": Case(nnc.Huber(0.6), lambda reduction: nn.HuberLoss(delta=0.6, reduction=reduction)),
    "log_cosh": Case("log_cosh", by_formula(log_cosh)),
    "quantile": Case(nnc.Quantile(0.3), by_formula(partial(pinball, tau=0.3)), kink=error),
    "hinge": Case("hinge", by_formula(hinge), "signs", kink=lambda P, Y: (1 - Y * P).abs()),
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


# --------------------------------------------------------------------------------------------- optimizers

# Ours, PyTorch's, and the learning rate.
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
    "nadam": (partial(nnc.NAdam), partial(optim.NAdam), 0.003),
    "rprop": (partial(nnc.Rprop, step_sizes=(1e-5, 0.1)), partial(optim.Rprop, step_sizes=(1e-5, 0.1)), 0.01),
}


# -------------------------------------------------------------------------------------- the same in PyTorch


class Twin:
    """A network's parameters in PyTorch, trained by its autograd and its optimizers."""

    def __init__(self, net, case):
        self.case, self.activations = case, net.activations
        self.W = [torch.tensor(W, requires_grad=True) for W in net.weights]
        self.b = [torch.tensor(b, requires_grad=True) for b in net.biases]
        self.margin = np.inf  # the distance from the nearest kink so far

    @property
    def parts(self):
        """Layer by layer W, and b where there is one."""
        return [part for pair in zip_longest(self.W, self.b) for part in pair if part is not None]

    @property
    def params(self):
        return torch.cat([part.detach().ravel() for part in self.parts]).numpy()

    def near(self, distances):
        """Notes how near a kink is; what is exactly at one is there in both, such as a dead unit's gradient."""
        distances = distances.detach().numpy()
        self.margin = np.min(distances, where=distances > 0, initial=self.margin)

    def forward(self, X):
        """The outputs, or what PyTorch's loss takes in their place."""
        for l, W in enumerate(self.W):
            Z = X @ W + self.b[l] if self.b else X @ W
            name = self.activations[l]
            if l == len(self.W) - 1 and self.case.from_logits:
                return Z
            if "relu" in name:
                self.near(Z.abs())
            X = torch_activation(name)(Z)
        return X

    def loss(self, X, Y, w=None):
        out = self.forward(X)
        if self.case.kink is not None:
            self.near(self.case.kink(out, Y))
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
        """The loss of every epoch."""
        X, Y = torch.tensor(X), torch.tensor(Y)
        w = None if w is None else torch.tensor(w)
        parts, losses = self.parts, []
        penalized = parts if regularize_bias else self.W
        counts = [len(rows) if w is None else rows.sum().item() for rows in (X if w is None else w).split(batch_size)]
        signs = isinstance(optimizer, optim.Rprop)
        for epoch in range(epochs):
            total = 0.0
            for batch, start in enumerate(range(0, len(X), batch_size)):
                rows = slice(start, start + batch_size)
                loss = self.loss(X[rows], Y[rows], None if w is None else w[rows])
                share = counts[batch] / sum(counts)
                total += loss.item() * (1 if self.case.adds_up else share)
                if l1 or l2:
                    flat = torch.cat([p.ravel() for p in penalized])
                    sizes = flat.abs()
                    penalty = l1 * sizes.sum() + l2 * flat.square().sum() / 2
                    total += penalty.item() * share
                    loss = loss + penalty
                    if l1:
                        self.near(sizes)
                optimizer.zero_grad()
                loss.backward()
                if clip_value is not None:
                    nn.utils.clip_grad_value_(parts, clip_value)
                if clip_norm is not None:
                    nn.utils.clip_grad_norm_(parts, clip_norm)
                if signs:
                    for p in parts:
                        self.near(p.grad.abs())
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
    """A network, data and the arguments of fit.

    Hypothesis begins with the first of several values, so every pair of a loss and an optimizer puts them in an order
    of its own: already one example of each pair goes through most of what there is.
    """
    case, small = CASES[loss], dtype == "float32"
    turns = np.random.default_rng(crc32(f"{loss}, {optimizer}".encode()))

    def choose(*values):
        turn = int(turns.integers(len(values)))
        return draw(st.sampled_from([*values[turn:], *values[:turn]]))

    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    widths = (5, 9, 3, 8, 1) if small else (7, 17, 8, 3, 1, 33)
    n_out = choose(3, 2, 5, 9)
    hidden = [choose(*widths) for _ in range(choose(1, 2, 1, 0) if small else choose(1, 2, 3, 1, 2, 0))]
    output = None if case.bound else choose(None, "identity", "tanh", None, "sigmoid", "softplus", "softmax")
    sizes = [choose(*widths), *hidden, n_out]
    net = NeuralNetwork(
        sizes,
        activation=[choose(*HIDDEN) for _ in hidden],
        output=output,
        loss=case.ours,
        bias=choose(True, True, False),
        dtype=dtype,
        seed=int(rng.integers(2**63)),
    )
    net.params = net.params + rng.uniform(-0.1, 0.1, net.n_params)  # biases start at 0
    rows = choose(11, 19, 5) if small else choose(23, 40, 17)
    X = rng.uniform(-1, 1, (rows, sizes[0])).astype(dtype)
    y = case.draw(rng, rows, n_out, dtype)
    # Without weights a slope that is a constant makes the gradient of a bias a sum of equal numbers, which may cancel:
    # then Rprop takes the sign of a rounding error.
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
    ours, theirs, lr = OPTIMIZERS[optimizer]
    net, batch = problem.net, problem.batch_size
    if case.adds_up and optimizer in ("sgd", "momentum", "nesterov"):
        lr /= batch * net.sizes[-1]
    constants = {} if problem.decay is None else {"weight_decay": problem.decay}
    epochs = -(-steps // -(-len(problem.X) // batch))

    def theirs_from(start):
        twin = Twin(start, case)
        stepper = twin.optimizer(theirs, lr, problem.decay, problem.options["regularize_bias"])
        data = problem.X, problem.y, problem.w
        return twin, twin.fit(*data, optimizer=stepper, epochs=epochs, batch_size=batch, **problem.options)

    beside, (twin, wanted) = net.copy(), theirs_from(net)
    assume(twin.margin > SAFE[dtype])
    history = net.fit(
        problem.X,
        problem.y,
        sample_weight=problem.w,
        optimizer=ours(lr=lr, **constants),
        epochs=epochs,
        batch_size=batch,
        shuffle=False,
        n_threads=1,
        **problem.options,
    )
    tolerance = TOLERANCE[dtype]
    if max(differences(net.params, history.loss, twin.params, wanted)) > tolerance:
        signs = np.where(np.arange(net.n_params) % 2, 1, -1)
        beside.params = beside.params * (1 + 16 * np.finfo(dtype).eps * signs)
        other, losses = theirs_from(beside)
        assume(max(differences(other.params, losses, twin.params, wanted)) < tolerance / 10)
    same(net, history, twin, wanted, tolerance)


def differences(params, losses, wanted_params, wanted_losses):
    """The largest ones, relative: of the losses and of the parameters."""
    return (
        np.abs(losses - wanted_losses).max() / np.abs(wanted_losses).max(),
        np.abs(params - wanted_params).max() / np.linalg.norm(wanted_params),
    )


def same(net, history, twin, losses, tolerance):
    assert history.loss.shape == losses.shape
    of_losses, of_params = differences(net.params, history.loss, twin.params, losses)
    assert of_losses <= tolerance
    assert of_params <= tolerance


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", CASES)
@settings(max_examples=FEW)
@given(data=st.data())
def test_trajectory(loss, optimizer, data):
    problem = data.draw(problems(loss, optimizer))
    compare_trajectories(problem, CASES[loss], optimizer, "float64", STEPS)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@settings(max_examples=4 * FEW)
@given(data=st.data())
def test_trajectory_in_float32(optimizer, data):
    """Rprop takes the sign of every number of every gradient: fewer steps, so that most runs meet no sign in doubt."""
    loss = data.draw(st.sampled_from(list(CASES)))
    problem = data.draw(problems(loss, optimizer, "float32"))
    compare_trajectories(problem, CASES[loss], optimizer, "float32", 15 if optimizer == "rprop" else STEPS)


# ------------------------------------------------------------------------------------------------- images

SMOOTH = ("tanh", "silu", "sigmoid", "relu", "gelu")


def window_pairs(most):
    return st.tuples(st.integers(1, most), st.integers(1, most))


@st.composite
def image_layers(draw):
    """Layers that fit onto each other: convolutions and pools of all shapes, then one dense layer or two."""
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
        except ValueError:  # the window is larger than what is left of the image
            break
        layers.append(layer)
    layers += draw(st.sampled_from([[], [GlobalAvgPool2D()], [Dense(9, "tanh")]]))
    return [*layers, draw(st.integers(2, 5))]


class ImageTwin(Twin):
    """The same of a network of images."""

    def __init__(self, net, case):
        self.case, self.stack, self.margin = case, net.model.stack, np.inf
        self.W = [torch.tensor(W, requires_grad=True) for W in net.weights]
        self.b = [None if b is None else torch.tensor(b, requires_grad=True) for b in net.model.b]

    def forward(self, X):
        """Images come with channels last; PyTorch has them first."""
        X = X.permute(0, 3, 1, 2)
        for layer in self.stack.layers:
            kind = layer.kind
            if isinstance(kind, Conv2D):
                X = self.convolved(X, layer)
            elif isinstance(kind, Dense):
                X = (
                    X @ self.W[layer.parametric_index]
                    if self.b[layer.parametric_index] is None
                    else nn.functional.linear(X, self.W[layer.parametric_index].T, self.b[layer.parametric_index])
                )
            elif isinstance(kind, MaxPool2D):
                self.near_ties(X, kind)
                X = nn.functional.max_pool2d(X, kind.size, kind.stride)
            elif isinstance(kind, AvgPool2D):
                X = nn.functional.avg_pool2d(X, kind.size, kind.stride)
            elif isinstance(kind, GlobalAvgPool2D):
                X = X.mean(dim=(2, 3), keepdim=True)
            else:
                X = X.permute(0, 2, 3, 1).flatten(1)
            if layer.has_parameters and not (layer.parametric_index == len(self.W) - 1 and self.case.from_logits):
                if kind.activation == "relu":
                    self.near(X.abs())
                X = torch_activation(kind.activation)(X)
        return X

    def convolved(self, X, layer):
        """PyTorch pads to the same size for a stride of 1 alone: the border is made here, by the definition."""
        kind, W, b = layer.kind, self.W[layer.parametric_index], self.b[layer.parametric_index]
        if kind.padding == "same":
            wanted = [
                max(0, (-(-n // s) - 1) * s + k - n)
                for n, s, k in zip(layer.input_shape, kind.stride, kind.size, strict=False)
            ]
            (top, left), (bottom, right) = ([n // 2 for n in wanted], [n - n // 2 for n in wanted])
            X = nn.functional.pad(X, (left, right, top, bottom))
        kernel = W.reshape(*kind.size, layer.input_shape[2], kind.filters).permute(3, 2, 0, 1).contiguous()
        return nn.functional.conv2d(X, kernel, b, stride=kind.stride)

    def near_ties(self, X, kind):
        """The largest of a window is a kink where the next one is as large."""
        windows = nn.functional.unfold(X.detach().flatten(0, 1)[:, None], kind.size, stride=kind.stride)
        if windows.shape[1] > 1:
            two = windows.topk(2, dim=1).values
            self.near(two[:, 0] - two[:, 1])


@st.composite
def image_problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    loss = draw(st.sampled_from(["mse", "cross_entropy of labels", "huber"]))
    layers, rows = draw(image_layers()), draw(st.integers(1, 33))
    net = NeuralNetwork(layers, loss=CASES[loss].ours, seed=int(rng.integers(2**63)))
    net.params = net.params + rng.uniform(-0.1, 0.1, net.n_params)  # biases start at 0
    X = rng.uniform(-1, 1, (rows, *net.model.input_shape))
    return SimpleNamespace(net=net, case=CASES[loss], X=X, y=CASES[loss].draw(rng, rows, net.sizes[-1]))


@settings(max_examples=60 * FEW)
@given(problem=image_problems())
def test_outputs_loss_and_gradients_of_images(problem):
    net, X, Y = problem.net, torch.tensor(problem.X, requires_grad=True), torch.tensor(problem.y)
    twin = ImageTwin(net, problem.case)
    out = twin.forward(X)
    loss = twin.loss(X, Y)
    assume(twin.margin > SAFE["float64"])
    if problem.case.from_logits:
        out = torch.softmax(out, dim=1)
    assert np.abs(net.predict(problem.X) - out.detach().numpy()).max() <= 1e-12
    assert net.evaluate_loss(problem.X, problem.y) == pytest.approx(loss.item(), rel=1e-12)
    loss.backward()
    found = [part for pair in net.gradients(problem.X, problem.y) for part in pair if part is not None]
    found.append(nnc.input_gradients(net, problem.X, problem.y))
    for part, wanted in zip(found, [*(part.grad for part in twin.parts), X.grad], strict=True):
        assert np.abs(part - wanted.numpy()).max() <= 1e-10 * max(wanted.abs().max().item(), 1e-3)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
@settings(max_examples=30 * FEW)
@given(problem=image_problems(), parts=st.integers(1, 3))
def test_trajectory_of_images(optimizer, problem, parts):
    """20 steps, of whole epochs."""
    net, (ours, theirs, lr) = problem.net, OPTIMIZERS[optimizer]
    batch = -(-len(problem.X) // parts)
    epochs = -(-20 // -(-len(problem.X) // batch))
    twin = ImageTwin(net, problem.case)
    stepper = theirs(twin.parts, lr=lr, foreach=False)
    losses = twin.fit(problem.X, problem.y, optimizer=stepper, epochs=epochs, batch_size=batch)
    assume(twin.margin > SAFE["float64"])
    history = net.fit(problem.X, problem.y, optimizer=ours(lr=lr), epochs=epochs, batch_size=batch, shuffle=False)
    same(net, history, twin, losses, TOLERANCE["float64"])


# ---------------------------------------------------------------------------------------------- schedules

EPOCHS = 30


def one_cycle(optimizer):
    return schedulers.OneCycleLR(
        optimizer, 0.1, total_steps=EPOCHS, pct_start=0.25, div_factor=10, final_div_factor=50, cycle_momentum=False
    )


# Ours, and PyTorch's, stepped together.
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
def test_schedule(schedule, optimizer):
    ours, theirs = SCHEDULES[schedule]
    make, make_theirs, _ = SCHEDULED[optimizer]
    net, X, y = regression()
    twin, rates = Twin(net, CASES["mse"]), []
    stepper = twin.optimizer(make_theirs, 0.1, weight_decay=0.02)
    stepped = [scheduler(stepper) for scheduler in theirs]

    def after_epoch(epoch):
        rates.append(now["lr"])
        if epoch < EPOCHS - 1:  # OneCycleLR has no rate after the last
            for scheduler in stepped:
                scheduler.step()
        now["lr"] = stepper.param_groups[0]["lr"]

    now = {"lr": stepper.param_groups[0]["lr"]}
    losses = twin.fit(X, y, optimizer=stepper, epochs=EPOCHS, batch_size=9, after_epoch=after_epoch)
    history = net.fit(X, y, epochs=EPOCHS, lr=ours, optimizer=make(weight_decay=0.02), batch_size=9, shuffle=False)
    assert history.lr == pytest.approx(np.array(rates), rel=1e-13, abs=1e-17)
    same(net, history, twin, losses, 1e-10)


@pytest.mark.parametrize(("patience", "threshold", "min_lr"), [(0, 1e-2, 0), (1, 1e-3, 1e-3), (2, 0.02, 0)])
def test_rate_reduced_on_a_plateau_of_the_validation_loss(patience, threshold, min_lr):
    net, X, y = regression(3)
    X_val, y_val = X[:8] + 0.1, y[:8]
    twin, rates, validation = Twin(net, CASES["mse"]), [], []
    stepper = twin.optimizer(optim.SGD, 0.3)
    constants = {"factor": 0.4, "patience": patience, "threshold": threshold, "min_lr": min_lr}
    scheduler = schedulers.ReduceLROnPlateau(stepper, **constants)

    def after_epoch(epoch):
        rates.append(stepper.param_groups[0]["lr"])
        with torch.no_grad():
            validation.append(twin.loss(torch.tensor(X_val), torch.tensor(y_val)).item())
        scheduler.step(validation[-1])

    losses = twin.fit(X, y, optimizer=stepper, epochs=80, batch_size=9, after_epoch=after_epoch)
    assert len(set(rates)) > 2, "the rate has been reduced twice"
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
    assert history.lr == pytest.approx(np.array(rates), rel=1e-14, abs=0)
    assert history.val_loss == pytest.approx(np.array(validation), rel=1e-11)
    same(net, history, twin, losses, 1e-10)


@pytest.mark.parametrize("lr", [0.02, nnc.StepLR(0.02, 5), lambda epoch: 0.02])
def test_rprop_starts_with_the_rate_it_is_given(lr):
    """However that is given; later rates do not matter, as in PyTorch."""
    net, X, y = regression()
    twin = Twin(net, CASES["mse"])
    stepper = twin.optimizer(optim.Rprop, 0.02)
    losses = twin.fit(X, y, optimizer=stepper, epochs=20, batch_size=len(X))
    history = net.fit(X, y, epochs=20, lr=lr, optimizer="rprop")
    same(net, history, twin, losses, 1e-12)


# ---------------------------------------------------------------------------------- weights of rows and classes


def copies_of_rows(loss, dtype="float64", activation="tanh"):
    """Two equal networks, weighted rows and the same rows repeated."""
    rng = np.random.default_rng(5)
    case = CASES[loss]
    X, y = rng.uniform(-1, 1, (21, 4)).astype(dtype), case.draw(rng, 21, 3, dtype)
    k = rng.integers(0, 4, 21)
    assert {0, 1, 2, 3} <= set(k)
    net = NeuralNetwork([4, 9, 6, 3], activation=activation, loss=case.ours, dtype=dtype, seed=2)
    return net, X, y, k, np.repeat(X, k, axis=0), np.repeat(y, k, axis=0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", CASES)
def test_a_weighted_row_is_so_many_rows(isa, loss, dtype):
    net, X, y, k, X_all, y_all = copies_of_rows(loss, dtype)
    eps = float(np.finfo(dtype).eps)
    # poisson's terms have both signs, and hardly any loss is the sum of less than 20 terms
    assert net.evaluate_loss(X, y, k) == pytest.approx(net.evaluate_loss(X_all, y_all), rel=8 * eps, abs=8 * eps)
    pairs = zip(net.gradients(X, y, k), net.gradients(X_all, y_all), strict=True)
    found, wanted = (np.concatenate([np.vstack(pair).ravel() for pair in side]) for side in zip(*pairs, strict=True))
    assert np.abs(found - wanted).max() <= 8 * eps * np.abs(wanted).max()
    assert np.count_nonzero(wanted) > 80


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rprop"])
@pytest.mark.parametrize("loss", CASES)
def test_training_on_weighted_rows(loss, optimizer):
    """For the losses whose slope is a constant, the gradient of a bias is a sum of a few different numbers that may be
    exactly 0, where Rprop would take the sign of its rounding."""
    if optimizer == "rprop" and CASES[loss].kink is not None:
        optimizer = "adagrad"
    net, X, y, k, X_all, y_all = copies_of_rows(loss)
    other = net.copy()
    arguments = {
        "epochs": 100,
        "lr": 0.0005 if CASES[loss].adds_up else 0.01,
        "optimizer": optimizer,
        "clip_norm": 0.3,
        "l1": 0.001,
        "l2": 0.01,
    }
    history = net.fit(X, y, sample_weight=k, **arguments)
    wanted = other.fit(X_all, y_all, **arguments)
    assert np.abs(history.loss - wanted.loss).max() <= 1e-12 * np.abs(wanted.loss).max()
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
def test_class_weight_is_a_weight_of_rows(kind, with_rows, balanced, dtype):
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
    wanted = other.fit(X, y, sample_weight=explicit if rows is None else explicit * rows, **arguments)
    assert np.array_equal(history.loss, wanted.loss)
    assert np.array_equal(net.params, other.params)
    plain = NeuralNetwork(sizes, loss=loss, dtype=dtype, seed=3)
    plain.fit(X, y, sample_weight=rows, **arguments)
    assert not np.array_equal(plain.params, net.params)


# ------------------------------------------------------------------------------------- Rprop and known minima


@pytest.mark.parametrize("target", [[3.0, -2.0, 0.5, 1e-3], [40.0, -0.1, 0.0, 7.0]])
@pytest.mark.parametrize("optimizer", ["rprop", nnc.Rprop(lr=1.0), nnc.Rprop(etas=(0.3, 1.4), step_sizes=(1e-8, 5))])
def test_rprop_finds_the_minimum_of_a_quadratic(optimizer, target):
    """sum of curvature (w - target)**2 / 2, the curvatures from 1e-4 to 100."""
    roots = np.array([0.01, 0.5, 2.0, 10.0])
    net = NeuralNetwork([4, 1], output="identity", loss="half_sse", bias=False, seed=0)
    history = net.fit(np.diag(roots), roots * target, epochs=400, optimizer=optimizer)
    assert net.weights[0][:, 0] == pytest.approx(np.array(target), abs=2e-6)
    assert history.loss[-1] < 1e-9


@pytest.mark.parametrize("loss", ["mse", "sse"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rprop_finds_the_line_of_a_regression(loss, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 5)) + 0.3
    y = X @ rng.normal(size=(5, 2)) + rng.normal(size=(60, 2))
    wanted, squares = np.linalg.lstsq(np.column_stack([X, np.ones(60)]), y, rcond=None)[:2]
    net = NeuralNetwork([5, 2], output="identity", loss=loss, seed=seed)
    history = net.fit(X, y, epochs=2000, optimizer=nnc.Rprop(step_sizes=(1e-9, 50)))
    assert np.vstack([net.weights[0], net.biases[0]]) == pytest.approx(wanted, abs=1e-6)
    assert history.loss[-1] == pytest.approx(squares.sum() / (120 if loss == "mse" else 1), rel=1e-12)


# ------------------------------------------------------------------------------------------------- dropout


def masks(seed, step, layer, rows, units, share, n_threads=1, dtype="float64"):
    """The masks (rows, units) of a hidden layer in a step, counted from 0, read off a weight update.

    The layer puts out ones, whatever comes in. The output is 0 and the target minus the unit matrix, so with half_sse
    delta is the unit matrix, and the gradient of the output's weights is the layer's outputs, transposed.
    """
    sizes = [1, *[1] * layer, units, rows]
    net = NeuralNetwork(sizes, activation="identity", output="identity", loss="half_sse", dtype=dtype, seed=seed)
    net.params = np.zeros(net.n_params)
    X, Y = np.ones((rows, 1)), -np.eye(rows)
    dropout = [*[0.0] * layer, share]
    if step:
        net.fit(X[:1], Y[:1], epochs=step, lr=1e-3, dropout=dropout)
        net.params = np.zeros(net.n_params)
    net.biases[layer][:] = 1
    net.fit(X, Y, epochs=1, lr=1.0, dropout=dropout, n_threads=n_threads)
    return -net.weights[-1].T.copy()


def near(share, wanted, count, sigmas=4):
    return abs(share - wanted) < sigmas * np.sqrt(wanted * (1 - wanted) / count)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_share_of_a_mask(isa, share):
    mask = masks(7, 0, 0, 300, 200, share)
    kept = mask != 0
    assert np.array_equal(np.unique(mask), [0, 1 / (1 - share)])
    assert near(kept.mean(), 1 - share, kept.size)
    # No row and no unit is kept more often than chance has it: the largest of 300 is within 5 sigma.
    assert all(near(mean, 1 - share, 200, 5) for mean in kept.mean(axis=1))
    assert all(near(mean, 1 - share, 300, 5) for mean in kept.mean(axis=0))


def test_masks_have_nothing_to_do_with_each_other():
    """Of another seed, step, layer, row or unit: two of them agree as often as chance has it."""
    first = masks(7, 0, 0, 200, 100, 0.3) != 0
    others = {
        "seed": masks(8, 0, 0, 200, 100, 0.3),
        "step": masks(7, 1, 0, 200, 100, 0.3),
        "later step": masks(7, 5, 0, 200, 100, 0.3),
        "layer": masks(7, 0, 1, 200, 100, 0.3),
        "row": np.roll(first, 1, axis=0),
        "unit": np.roll(first, 1, axis=1),
    }
    for name, other in others.items():
        assert near((first == (other != 0)).mean(), 0.7**2 + 0.3**2, first.size), name


def test_a_mask_depends_on_seed_step_layer_row_and_unit_alone(isa):
    whole = masks(7, 2, 1, 700, 40, 0.4)  # more rows than a block has: 256 of them
    for n_threads in (2, 3):
        assert np.array_equal(masks(7, 2, 1, 700, 40, 0.4, n_threads), whole)
    assert np.array_equal(masks(7, 2, 1, 700, 40, 0.4, dtype="float32") != 0, whole != 0)
    assert np.array_equal(masks(7, 2, 1, 100, 40, 0.4), whole[:100])
    assert np.array_equal(masks(7, 2, 1, 700, 23, 0.4), whole[:, :23])
    # A unit that is kept at 0.6 is kept at 0.3 as well.
    assert (masks(7, 2, 1, 100, 40, 0.3)[whole[:100] != 0] != 0).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch_size", [16, 700])
def test_dropout_in_every_number_of_threads(isa, batch_size, dtype):
    """A batch of 700 rows takes two blocks and more."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, (700, 6)).astype(dtype), rng.integers(0, 4, 700)
    found = []
    for n_threads in (1, 2, 3):
        net = NeuralNetwork([6, 90, 50, 4], activation="relu", loss="cross_entropy", dtype=dtype, seed=5)
        epochs = 1 if batch_size == 16 else 8
        arguments = {"epochs": epochs, "lr": 0.1, "batch_size": batch_size, "dropout": (0.2, 0.5)}
        history = net.fit(X, y, n_threads=n_threads, **arguments)
        found.append(net.params.tobytes() + history.loss.tobytes())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("rows", "batch_size"), [(26, 26), (26, 8), (700, 700)])
def test_dropout_against_numpy(isa, rows, batch_size):
    """Some steps of gradient descent with the masks that `masks` has found."""
    shares, lr, seed = (0.25, 0.5), 0.3, 11
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
            M1, M2 = (masks(seed, step, l, len(x), n, shares[l]) for l, n in enumerate((33, 17)))
            A1 = np.tanh(x @ W1 + b1)
            Z2 = (A1 * M1) @ W2 + b2
            A2 = np.log1p(np.exp(Z2))
            P = (A2 * M2) @ W3 + b3
            total += ((P - y) ** 2).mean() * len(x) / rows
            D3 = 2 * (P - y) / y.size
            D2 = D3 @ W3.T * M2 / (1 + np.exp(-Z2))
            D1 = D2 @ W2.T * M1 * (1 - A1**2)
            slopes = x.T @ D1, D1.sum(0), (A1 * M1).T @ D2, D2.sum(0), (A2 * M2).T @ D3, D3.sum(0)
            for part, slope in zip((W1, b1, W2, b2, W3, b3), slopes, strict=True):
                part -= lr * slope
            step += 1
    history = net.fit(X, Y, epochs=2, lr=lr, batch_size=batch_size, shuffle=False, dropout=shares)
    assert history.loss[-1] == pytest.approx(total, rel=1e-13)
    found = [part for layer in net.layers for part in (layer.W, layer.b)]
    for part, wanted in zip(found, (W1, b1, W2, b2, W3, b3), strict=True):
        assert np.abs(part - wanted).max() < 1e-13


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("nothing", [0.0, 0, (0.0, 0.0)])
def test_dropout_of_nothing(nothing, optimizer):
    found = []
    for arguments in ({}, {"dropout": nothing}):
        rng = np.random.default_rng(0)
        net = NeuralNetwork([3, 20, 9, 2], loss="mse", seed=1)
        X, y = rng.uniform(-1, 1, (50, 3)), rng.normal(size=(50, 2))
        history = net.fit(X, y, epochs=20, lr=0.02, optimizer=optimizer, batch_size=7, **arguments)
        found.append((net.params.tobytes(), history.loss.tobytes()))
    assert found[0] == found[1]


def test_only_training_drops():
    """predict, loss, gradients, score, forward and the validation loss are those of a network that never dropped."""
    rng = np.random.default_rng(0)
    net = NeuralNetwork([3, 20, 2], activation="tanh", loss="mse", seed=1)
    X, y = rng.uniform(-1, 1, (50, 3)), rng.normal(size=(50, 2))
    seen = []

    def look(record):
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
        seen.append(twin.evaluate_loss(X, y))

    look.every = 1
    history = net.fit(X, y, epochs=5, lr=0.01, dropout=0.5, validation=(X, y), callback=look)
    assert np.array_equal(history.val_loss, seen)
    assert len(set(history.loss - [net.evaluate_loss(X, y)])) == 5
    look(SimpleNamespace(network=net))


def test_random_numbers_go_on_from_fit_to_fit():
    """Neither masks nor orders come back, whatever is done between two fits."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, (50, 3)), rng.normal(size=(50, 2))
    whole, pieces, other = (NeuralNetwork([3, 20, 2], loss="mse", seed=1) for _ in range(3))
    arguments = {"lr": 0.01, "batch_size": 8, "dropout": 0.5}
    whole.fit(X, y, epochs=6, optimizer="adam", **arguments)
    for epochs in (1, 2, 3):
        pieces.fit(X, y, epochs=epochs, optimizer="adam" if epochs == 1 else None, **arguments)
    assert np.array_equal(whole.params, pieces.params)

    start, loss = other.params, set()
    between = [
        lambda: None,
        lambda: other.train_step(X, y),
        lambda: other.fit(X, y, epochs=1),
        lambda: other.fit(X, y, epochs=1, batch_size=8),
        lambda: other.fit_batches([(X, y)]),
    ]
    for act in between:
        other.params = start
        loss.add(other.fit(X, y, epochs=1, optimizer="sgd", **{**arguments, "dropout": 0.0}).loss[0])
        act()
        other.params = start
        loss.add(other.fit(X, y, epochs=1, optimizer="sgd", **{**arguments, "dropout": 0.0}).loss[0])
    assert len(loss) == 2 * len(between), "an order of rows came back"

    loss.clear()
    for act in between:
        other.params = start
        loss.add(other.fit(X, y, epochs=1, optimizer="sgd", lr=0.01, dropout=0.5).loss[0])
        act()
        other.params = start
        loss.add(other.fit(X, y, epochs=1, optimizer="sgd", lr=0.01, dropout=0.5).loss[0])
    assert len(loss) == 2 * len(between), "a mask came back"


def test_orders_and_masks_of_rows_in_a_file(tmp_path):
    """Read batch by batch they are those of the same rows in memory, over two fits and with a look after each epoch."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, (50, 3)).astype("float32"), rng.normal(size=(50, 2))
    mapped = np.memmap(tmp_path / "X", "float32", "w+", shape=X.shape)
    mapped[:] = X
    in_memory, in_file = (NeuralNetwork([3, 20, 2], loss="mse", seed=1) for _ in range(2))
    for epochs in (3, 2):
        arguments = {"epochs": epochs, "lr": 0.05, "batch_size": 8, "dropout": 0.3, "callback": lambda record: None}
        wanted = in_memory.fit(X, y, **arguments)
        found = in_file.fit(mapped, y, **arguments)
        assert found.loss == pytest.approx(wanted.loss, rel=1e-14)
        assert np.array_equal(in_file.params, in_memory.params)


# -------------------------------------------------------------------------- every optimizer, number of threads

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
    "no norm": {"max_norm": 0.9, "l1": 0.001, "dropout": 0.3},  # steps taken strip by strip
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_number_of_threads_gives_the_same_bits(isa, optimizer, dtype):
    make, _, lr = OPTIMIZERS[optimizer]
    constants = {} if optimizer == "rprop" else {"weight_decay": 0.02}
    rng = np.random.default_rng(4)
    X, y = rng.uniform(-1, 1, (90, 20)).astype(dtype), rng.normal(size=(90, 5)).astype(dtype)
    w = rng.uniform(0.1, 2, 90)
    for name, extras in THREADED.items():
        found = set()
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
            found.add(net.params.tobytes() + history.loss.tobytes())
        assert len(found) == 1, name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rprop"])
def test_threads_on_a_batch_of_several_blocks(isa, optimizer):
    make, _, lr = OPTIMIZERS[optimizer]
    rng = np.random.default_rng(4)
    X, y = rng.uniform(-1, 1, (600, 8)), rng.normal(size=(600, 2))
    for extras in THREADED.values():
        found = set()
        for n_threads in (1, 2, 3, 4, 7):
            net = NeuralNetwork([8, 120, 40, 2], activation="silu", loss="mse", seed=6)
            history = net.fit(X, y, epochs=2, optimizer=make(lr=lr), n_threads=n_threads, **extras)
            found.add(net.params.tobytes() + history.loss.tobytes())
        assert len(found) == 1


# ------------------------------------------------------------------------------------------- steps from gradients


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "nadam"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_from_gradients_of_torch(name, dtype):
    """PyTorch computes the gradient of two losses of one network; nnc and PyTorch take the steps from it."""
    ours, theirs = {
        "sgd": (nnc.SGD(weight_decay=0.1), partial(optim.SGD, weight_decay=0.1)),
        "momentum": (nnc.SGD(momentum=0.9, nesterov=True), partial(optim.SGD, momentum=0.9, nesterov=True)),
        "adam": (nnc.Adam(), optim.Adam),
        "adamw": (nnc.AdamW(), optim.AdamW),
        "rmsprop": (nnc.RMSprop(momentum=0.5), partial(optim.RMSprop, momentum=0.5)),
        "adagrad": (nnc.Adagrad(), optim.Adagrad),
        "nadam": (nnc.NAdam(), optim.NAdam),
    }[name]
    rng = np.random.default_rng(3)
    net = NeuralNetwork([4, 9, 3], activation="tanh", loss="mse", dtype=dtype, seed=1)
    module = net.to_torch()
    weights = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    biases = {"params": [layer.bias for layer in weights], "weight_decay": 0.0}
    optimizer = theirs([{"params": [layer.weight for layer in weights]}, biases], lr=0.01)
    step = net.stepper(ours, 0.01, clip_norm=0.5)
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
        theirs_now = [value.detach().numpy() for layer in weights for value in (layer.weight.T, layer.bias)]
        found = np.concatenate([value.ravel() for value in theirs_now])
        assert np.linalg.norm(net.params - found) <= TOLERANCE[dtype] * np.linalg.norm(found)
