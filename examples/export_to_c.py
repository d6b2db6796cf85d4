"""Train a network and compile it into a C program without libraries: in double, in float and in 8-bit integers."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from picture import save_picture

from nnc import NeuralNetwork
from nnc.datasets import load_digits, train_test_split

MAIN = """
#include <stdio.h>
#include "digits.h"

int main(void) {                      /* reads the pixels of images, prints a class for each */
    REAL in[DIGITS_N_IN], out[DIGITS_N_OUT];
    double pixel;
    int i = 0;
    if (digits_self_test() != 0) return 1;
    while (scanf("%lf", &pixel) == 1) {
        in[i++] = (REAL)pixel;
        if (i == DIGITS_N_IN) {
            digits_predict(in, out);
            printf("%d\\n", digits_class(out));
            i = 0;
        }
    }
    return 0;
}
"""

X, y = load_digits()
X_train, X_test, y_train, y_test = train_test_split(X, y, seed=0)
net = NeuralNetwork([64, 32, 10], activation="relu", loss="cross_entropy", scale_X="minmax", seed=0)
net.fit(X_train, y_train, epochs=40, lr=0.2, batch_size=32)
print(f"in Python: accuracy {net.score(X_test, y_test):.1%} on {len(y_test)} digits")

compiler = shutil.which("cc")
sizes = {}
with tempfile.TemporaryDirectory() as folder:
    header, main, program = Path(folder, "digits.h"), Path(folder, "main.c"), Path(folder, "digits")
    main.write_text(MAIN, encoding="utf-8")
    for dtype, real in (("float64", "double"), ("float32", "float"), ("int8", "float")):
        net.to_c(header, dtype=dtype, **({"calibrate": X_train[:500]} if dtype == "int8" else {}))
        sizes[dtype] = header.stat().st_size
        if compiler:
            subprocess.run([compiler, "-O2", f"-DREAL={real}", "-o", program, main, "-lm"], check=True)
            pixels = " ".join(map(str, X_test.ravel()))
            done = subprocess.run([program], input=pixels, capture_output=True, text=True, check=True)
            classes = np.array(done.stdout.split(), dtype=int)
            agree = np.mean(classes == net.predict_classes(X_test))
            accuracy = np.mean(classes == y_test)
            print(f"in C, {dtype:7}: accuracy {accuracy:.1%}, {agree:.1%} of the predictions are equal")
print("" if compiler else "no C compiler found, so nothing was compiled", end="")


def draw(ax):
    ax.barh(list(sizes), [size / 1024 for size in sizes.values()])
    ax.set_xlabel("size of the header in kB")


save_picture(draw, height=1.8)
