"""Recognize handwritten digits: 8 x 8 pixels in, one of ten classes out."""

from picture import save_picture

import nnc
from nnc import NeuralNetwork
from nnc.datasets import load_digits, train_test_split

X, y = load_digits()
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, seed=0)

net = NeuralNetwork([64, 64, 10], activation="relu", loss="cross_entropy", dtype="float32", seed=0)
history = net.fit(X_train, y_train, epochs=40, lr=0.2, batch_size=32)

print(f"trained in {history.seconds * 1e3:.0f} ms, loss {history.loss[-1]:.4f}")
print(f"accuracy on {len(X_test)} images not seen in training: {net.score(X_test, y_test):.1%}")

save_picture(lambda ax: nnc.plot.confusion_matrix(net, X_test, y_test, ax), 4.5, 4)
