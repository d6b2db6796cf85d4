"""Compare the compiled engine with the same network in plain Python, number by number, on real data."""

import numpy as np
from picture import picture_path

import nnc
from nnc.datasets import load_iris

X, y = load_iris()
X = (X - X.mean(axis=0)) / X.std(axis=0)
one_hot = np.eye(3)[y]

# Three sigmoid outputs, one for each species. Both networks use the same batches of ten rows in the same order.
result = nnc.compare([4, 8, 3], X, one_hot, loss="half_sse", epochs=50, lr=0.1, batch_size=10)

accuracy = np.mean(result.engine.predict_classes(X) == y)
print(f"\naccuracy of the trained network: {accuracy:.1%}")
if picture_path():
    result.engine.history.to_svg(picture_path())
