"""Classify the sequences of MNIST-1D with a convolutional and with a recurrent network (package mnist1d).

Each sequence is a signal of 40 steps: the stretched, shifted and noisy outline of one of ten digits (Greydanus and
Kobak, 2020). The two networks have the architectures of the paper.
"""

from mnist1d.data import make_dataset
from picture import save_picture

import nnc
from nnc import CosineLR, NeuralNetwork
from nnc.layers import GRU, Bidirectional, Conv1D, Flatten, Input

data = make_dataset()  # 4,000 training rows and 1,000 test rows, created with a fixed seed
X, y, X_test, y_test = data["x"], data["y"], data["x_test"], data["y_test"]

nets = {
    "CNN": [Conv1D(25, size, stride=2, padding=1) for size in (5, 3, 3)],
    "GRU": [Bidirectional(GRU(6, return_sequences=True))],
}
for name, layers in nets.items():
    net = NeuralNetwork(
        [Input(steps=40, features=1), *layers, Flatten(), 10],
        activation="relu", loss="cross_entropy", dtype="float32", seed=0,
    )  # fmt: skip
    history = net.fit(X, y, epochs=60, batch_size=100, optimizer="adam", lr=CosineLR(0.01), clip_norm=1.0)
    print(f"{name}: {net.n_params} parameters trained in {history.seconds:.1f} s, ", end="")
    print(f"accuracy on {len(X_test)} sequences not seen in training: {net.score(X_test, y_test):.1%}")
    nets[name] = net

save_picture(lambda ax: nnc.plot.confusion_matrix(nets["CNN"], X_test, y_test, ax), 4.5, 4)
