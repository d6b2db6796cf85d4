"""Compilation of exported C headers with a program that prints their outputs."""

import shutil
import subprocess

import numpy as np
import pytest

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-pedantic", "-Werror"]
PROGRAM = """
#include <stdio.h>
#include "model.h"
int main(void)
{
    static double in[MODEL_N_IN], out[MODEL_N_OUT];
    int i = 0;
    if (model_self_test() != 0)
        return 3;
    while (scanf("%lf", &in[i]) == 1)
        if (++i == MODEL_N_IN) {
            model_predict(in, out);
            for (i = 0; i < MODEL_N_OUT; i++)
                printf("%.17g ", out[i]);
            printf("\\n");
            i = 0;
        }
    return 0;
}
"""


def run_header(folder, rows, *flags, standard="c99"):
    """Compile the header model.h in a folder, and return its outputs (rows, outputs) for rows of inputs."""
    compiler = shutil.which("gcc") or shutil.which("clang") or pytest.skip("requires a C compiler")
    (folder / "main.c").write_text(PROGRAM)
    language = ["-x", "c++" if "++" in standard else "c", f"-std={standard}"]
    command = [compiler, *language, "-O1", *WARNINGS, *flags, "main.c", "-o", "main", "-lm"]
    completed = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr[:3000]
    text = "\n".join(" ".join(map(repr, row)) for row in rows.tolist())
    completed = subprocess.run([folder / "main"], input=text, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    return np.array([line.split() for line in completed.stdout.splitlines()], float)
