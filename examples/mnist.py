"""Classify handwritten digits with an accuracy of 99.6 %: a small convolutional network on augmented images.

    python examples/mnist.py FOLDER [--epochs 18] [--seed 0] [--lenet] [--fashion] [--pictures FOLDER]

FOLDER contains the four files of MNIST under their original names (train-images-idx3-ubyte.gz, ...). --lenet trains
LeNet-5 without augmentation, in a few seconds. --fashion reads Fashion-MNIST, images of clothes in the same format.
--pictures saves two pictures (needs matplotlib): the filters of the first layer, and the misclassified images.
"""

import argparse
from pathlib import Path
from time import perf_counter

import nnc
from nnc import NeuralNetwork
from nnc.datasets import load_fashion_mnist, load_mnist
from nnc.layers import Conv2D, Input, MaxPool2D, small_images

LENET = [Input(28, 28, 1), Conv2D(6, 5), MaxPool2D(2), Conv2D(16, 5), MaxPool2D(2), 120, 84, 10]  # LeCun et al. (1998)


def main():
    parser = argparse.ArgumentParser(description="Train a convolutional network on MNIST.")
    parser.add_argument("folder", help="folder with the files of MNIST")
    parser.add_argument("--epochs", type=int, help="default: 18, or 10 with --lenet or --fashion")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lenet", action="store_true", help="train LeNet-5 without augmentation")
    parser.add_argument("--fashion", action="store_true", help="the folder contains Fashion-MNIST")
    parser.add_argument("--pictures", type=Path, help="folder for two pictures")
    arguments = parser.parse_args()
    data = (load_fashion_mnist if arguments.fashion else load_mnist)(arguments.folder)
    net = NeuralNetwork(
        LENET if arguments.lenet else small_images(10), activation="relu", loss="cross_entropy", dtype="float32",
        scale_X="pixels", seed=arguments.seed,
    )  # fmt: skip
    print(net.summary())
    start = perf_counter()

    def report(record):
        accuracy = net.score(data.X_test, data.y_test)
        seconds = perf_counter() - start
        print(f"epoch {record.epoch:2d}, {seconds:4.0f} s: loss {record.loss:.4f}, accuracy {accuracy:.2%}")

    if arguments.lenet:
        epochs = arguments.epochs or 10
        net.fit(
            data.X_train, data.y_train, epochs=epochs, batch_size=64, optimizer="adam", lr=nnc.CosineLR(2e-3),
            callback=report,
        )  # fmt: skip
    else:
        epochs = arguments.epochs or (10 if arguments.fashion else 18)
        distortions = {"shift": 1, "rotate": 0, "zoom": 0.05, "flip": "horizontal"} if arguments.fashion else {}
        images = nnc.augment(data.X_train, data.y_train, batch_size=128, seed=arguments.seed, **distortions)
        net.fit_batches(images, epochs=epochs, optimizer="adam", lr=nnc.OneCycleLR(4e-3), callback=report)
    predictions = net.predict_classes(data.X_test)
    errors = (predictions != data.y_test).nonzero()[0]
    accuracy = 1 - len(errors) / len(data.y_test)
    print(f"{len(errors)} of {len(data.y_test)} test images are misclassified: accuracy {accuracy:.2%}")
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        draw(net, data, predictions, errors, arguments.pictures)


def draw(net, data, predictions, errors, folder):
    """Save pictures of the filters and of the misclassified images."""
    from matplotlib import pyplot

    kernel = net.layers[0].kernel
    figure, axes = pyplot.subplots(1, kernel.shape[3], figsize=(kernel.shape[3], 1.2))
    for filter_, ax in enumerate(axes):
        ax.imshow(kernel[:, :, 0, filter_], cmap="gray")
        ax.set_axis_off()
    figure.suptitle("Filters of the first layer")
    figure.savefig(folder / "filters.png", dpi=150)
    figure, axes = pyplot.subplots(5, 10, figsize=(10, 6.5))
    for ax in axes.flat:
        ax.set_axis_off()
    for index, ax in zip(errors, axes.flat, strict=False):
        ax.imshow(data.X_test[index], cmap="gray_r")
        ax.set_title(f"{data.y_test[index]}, not {predictions[index]}", fontsize=8)
    figure.suptitle("Misclassified images: label, not prediction")
    figure.savefig(folder / "errors.png", dpi=150)
    print(f"pictures: {folder / 'filters.png'}, {folder / 'errors.png'}")


if __name__ == "__main__":
    main()
