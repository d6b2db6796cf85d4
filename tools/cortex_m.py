"""Measure the flash, memory and instructions of networks on a microcontroller, a Cortex-M4 with floating-point unit.

    apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
    python tools/cortex_m.py                # 4-16-3 and LeNet-5
    python tools/cortex_m.py net.json ...   # networks from files

Each network is written with `to_c`, compiled, and run by QEMU (board mps2-an386). With the option -icount of QEMU one
instruction takes one tick of the clock, so the count is the same in every run. The self-test of the C code must pass.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from nnc import NeuralNetwork
from nnc.layers import AvgPool2D, Conv2D, Flatten, Input

FLAGS = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-std=c99", "-Wall", "-Werror"]
LINK = ["-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections", "-lm", "-lc", "-lnosys"]
QEMU = ["-M", "mps2-an386", "-icount", "shift=0", "-nographic", "-semihosting", "-monitor", "none", "-serial", "none"]

LAYOUT = """
MEMORY { FLASH (rx) : ORIGIN = 0, LENGTH = 4M
         RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 4M }
SECTIONS {
    .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > FLASH
    .ARM.exidx : { *(.ARM.exidx*) } > FLASH
    .data : { *(.data*) } > RAM
    .bss : { *(.bss*) *(COMMON) } > RAM
    end = .;
}
"""
# The timer SysTick counts down at 25 MHz, which is one tick for every 40 instructions.
INSTRUCTIONS_PER_TICK = 40
PROGRAM = """
#include <stdint.h>
#define REPEATS %d
%s
#define REGISTER(address) (*(volatile uint32_t *)(address))

int main(void);
void reset(void);
__attribute__((section(".vectors"), used)) static const void *vectors[2] = {(void *)0x20400000, (const void *)reset};

static int host(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void reset(void)
{
    REGISTER(0xE000ED88) |= 0xF << 20; /* enable the floating-point unit */
    __asm__ volatile("dsb; isb");
    main();
    host(0x18, (void *)0x20026); /* exit */
}

static void print(uint32_t number)
{
    char text[12], *at = text + 11;
    *at = 0;
    do
        *--at = (char)('0' + number %% 10);
    while (number /= 10);
    host(0x04, at);
    host(0x04, " ");
}

static %s in[IN];
static %s out[OUT];

int main(void)
{
    uint32_t begin, end;
    int i;
    REGISTER(0xE000E014) = 0xFFFFFF;
    REGISTER(0xE000E018) = 0;
    REGISTER(0xE000E010) = 5;
    begin = REGISTER(0xE000E018);
    for (i = 0; i < REPEATS; i++) {
        PREDICT;
        __asm__ volatile("" : : "r"(in), "r"(out) : "memory");
    }
    end = REGISTER(0xE000E018);
    print((uint32_t)SELF_TEST);
    print((begin - end) & 0xFFFFFF);
    return 0;
}
"""


def build_small():
    """Return a network with 4 inputs, 16 hidden units and 3 outputs, as for the iris data."""
    rng = np.random.default_rng(0)
    net = NeuralNetwork([4, 16, 3], activation="relu", loss="cross_entropy", scale_X="standardize", seed=0)
    net.fit(rng.normal(3, 1, (90, 4)), np.arange(90) % 3, epochs=1)
    return net


def build_lenet():
    """Return LeNet-5 with 61,706 parameters (LeCun et al., 1998)."""
    layers = [
        Input(28, 28), Conv2D(6, 5, padding="same"), AvgPool2D(2), Conv2D(16, 5), AvgPool2D(2), Flatten(), 120, 84, 10,
    ]  # fmt: skip
    return NeuralNetwork(layers, activation="relu", loss="cross_entropy", scale_X="pixels", seed=0)


def compile_program(folder, net, optimize, repeats, dtype):
    """Compile a program that calls a network `repeats` times; return its file, and its bytes of flash and of memory.

    With `net=None` the program is empty, which measures the overhead of the program itself. The dtype "class" is int8
    with integers as inputs, from which only the class is computed; it has no self-test.
    """
    elf = folder / "program.elf"
    header, types, sizes = "", ("float", "float"), (0, 0)
    if net is not None:
        rows = np.random.default_rng(0).uniform(0, 255 if net.sizes[0] > 100 else 6, (200, net.sizes[0])).round()
        is_int8 = dtype in ("int8", "class")
        net.to_c(folder / "net.h", dtype="int8" if is_int8 else dtype, calibrate=rows if is_int8 else None)
        header = '#include "net.h"\n#define IN NET_N_IN\n'
        if dtype == "class":
            header += "#define OUT 1\n#define PREDICT out[0] = net_classify_int(in)\n#define SELF_TEST 0\n"
            types, sizes = ("net_integer", "int"), (1, 4)
        else:
            header += "#define OUT NET_N_OUT\n"
            header += "#define PREDICT net_predict(in, out)\n#define SELF_TEST net_self_test()\n"
            types, sizes = ("double", "double") if dtype == "float64" else types, (4, 4)
            sizes = (8, 8) if dtype == "float64" else sizes
    else:
        header = "#define IN 1\n#define OUT 1\n#define PREDICT\n#define SELF_TEST 0\n"
    (folder / "layout.ld").write_text(LAYOUT)
    (folder / "main.c").write_text(PROGRAM % (repeats, header, *types))
    command = ["arm-none-eabi-gcc", *FLAGS, optimize, "-T", folder / "layout.ld", folder / "main.c", "-o", elf, *LINK]
    subprocess.run(command, check=True)
    table = subprocess.run(["arm-none-eabi-size", elf], check=True, capture_output=True, text=True).stdout
    text, data, bss = map(int, table.splitlines()[1].split()[:3])
    buffers = 0 if net is None else net.sizes[0] * sizes[0] + (1 if dtype == "class" else net.sizes[-1]) * sizes[1]
    return elf, text + data, data + bss - buffers  # the memory of the arrays `in` and `out` is not counted


def print_measurement(name, net, optimize, dtype):
    """Measure a network and print a line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        repeats = 1000 if net.n_params < 1000 else 1
        _, empty_flash, empty_memory = compile_program(Path(folder), None, optimize, repeats, dtype)
        elf, flash, memory = compile_program(Path(folder), net, optimize, repeats, dtype)
        command = ["qemu-system-arm", *QEMU, "-kernel", elf]
        completed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        failed, ticks = map(int, (completed.stdout + completed.stderr).split())
    if failed:
        raise SystemExit(f"{name}: the self-test failed at output {failed - 1}")
    count = ticks * INSTRUCTIONS_PER_TICK // repeats
    print(f"{name:12} {dtype:8} {optimize:4} {flash - empty_flash:10,} {memory - empty_memory + 8:9,} {count:13,}")


def main():
    """Print the table of measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="files of networks (default: a network 4-16-3 and LeNet-5)")
    paths = parser.parse_args().networks
    networks = {Path(path).stem: NeuralNetwork.load(path) for path in paths}
    networks = networks or {"4-16-3": build_small(), "LeNet-5": build_lenet()}
    print("network      type     flags      flash    memory  instructions")
    for name, net in networks.items():
        for dtype in ("float32", "int8", "class"):
            for optimize in ("-Os", "-O2"):
                print_measurement(name, net, optimize, dtype)


if __name__ == "__main__":
    main()
