"""Train the 3-4-1 network of the tutorial, which learns exclusive-or in 1500 iterations."""

from picture import picture_path

from nnc import NeuralNetwork

X = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
y = [[0], [1], [1], [0]]

net = NeuralNetwork([3, 4, 1], bias=False, init="uniform", seed=0)
history = net.fit(X, y, epochs=1500, lr=1.0)

print(f"loss: {history.loss[0]:.4f} at the start, {history.loss[-1]:.4f} at the end, {history.seconds * 1e3:.2f} ms")
for inputs, target, prediction in zip(X, y, net.predict(X), strict=True):
    print(f"{inputs} -> {prediction[0]:.3f}, target {target[0]}")

net.inspect()
if picture_path():
    net.to_svg(picture_path(), row=X[1])
