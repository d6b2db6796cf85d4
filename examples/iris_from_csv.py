"""Classify iris flowers from a CSV file that the standard library reads.

The file belongs to the package. Classes may be names, as here, or numbers.
"""

import csv
from pathlib import Path

from picture import save_picture

import nnc.datasets
from nnc import NeuralNetwork
from nnc.datasets import IRIS_CLASSES, IRIS_FEATURES, train_test_split

PATH = Path(nnc.datasets.__file__).with_name("iris.csv")

with PATH.open(encoding="utf-8", newline="") as file:
    rows = [row for row in csv.reader(file) if not row[0].startswith("#")]
X = [[float(number) for number in row[:-1]] for row in rows]
y = [IRIS_CLASSES[int(row[-1])] for row in rows]
X_train, X_test, y_train, y_test = train_test_split(X, y, seed=0)

net = NeuralNetwork([4, 16, 3], activation="tanh", loss="cross_entropy", scale_X="standardize", seed=0)
net.fit(X_train, y_train, epochs=100, lr=0.1, batch_size=10, validation=0.2, patience=20)
print(f"{net.score(X_test, y_test):.1%} accuracy on {len(y_test)} flowers not seen in training")

flower = [5.9, 3.0, 5.1, 1.8]
print("A flower with", ", ".join(f"{name} {size}" for name, size in zip(IRIS_FEATURES, flower, strict=True)))
for name, probability in zip(net.classes, net.predict_proba(flower)[0], strict=True):
    print(f"  {name:10} {probability:6.1%}")

save_picture(lambda ax: nnc.plot.decision_boundary(net, X, y, ax, features=(2, 3)))
