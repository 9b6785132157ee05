#!/usr/bin/env python3
"""Cycles of the ARM kernels' inner loops by llvm-mca, as the tables of docs/engine.md.

    tools/mca.py            builds the kernels for both targets and prints Markdown
    tools/mca.py --loops    also prints the loops themselves

Needs what tools/setup-cross.sh installs, and llvm-mca of LLVM 17 or later (Debian: llvm-19). A loop is found in the
compiler's assembly as the innermost one of a function with a certain number of multiplications.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

AARCH64, ARMV7 = "aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"

# Core: what llvm-mca calls it, and for each pipe that can bound a loop how many cycles it is busy with an instruction.
# From Arm's optimisation guides, for A53 from published measurements: a vector load takes a cycle for every 64 bits
# and cannot issue alongside vector arithmetic, so both count as one pipe. LLVM has Cortex-A57's model for A72, A76 and
# A78, and a true one of Neoverse N1, which is A76's core: A76 and A78 go by that.
NEON_PRODUCTS = "smull|smlal|vmull|vmlal"
NEON_SUMS = "sadalp|vpadal"
CORES = {
    "A53": (
        "cortex-a53",
        [{rf"{NEON_PRODUCTS}|{NEON_SUMS}|fmla": 1, r"ldu?r\s+[ds]": 1, r"ldu?r\s+q|ldp\s+d": 2, r"ldp\s+q": 4}],
    ),
    "A72": ("cortex-a72", [{NEON_PRODUCTS: 1}, {NEON_SUMS: 1}, {"fmla": 1}]),
    "A76, A78": ("neoverse-n1", [{NEON_PRODUCTS: 1}, {NEON_SUMS: 1}, {"sdot|fmla": 0.5}]),
    "Neoverse V1": ("neoverse-v1", [{"smmla": 0.25}]),
}

# Loop: function, multiplications that tell it from the other heights' loops, products a round, cores.
NEON = ["A53", "A72", "A76, A78"]
LOOPS = [
    ("neon, 4 × 4", AARCH64, "3arm4neon", ("smull", 16), 256, NEON),
    ("neon, 3 × 4", AARCH64, "3arm4neon", ("smull", 12), 192, NEON),
    ("neon-dotprod, 6 × 16", AARCH64, "3arm7dotprod", ("sdot", 96), 1536, ["A76, A78"]),
    ("neon-dotprod, 5 × 16", AARCH64, "3arm7dotprod", ("sdot", 80), 1280, ["A76, A78"]),
    ("neon-i8mm, 6 × 16", AARCH64, "3arm4i8mm", ("smmla", 24), 768, ["Neoverse V1"]),
    ("f32, 6 × 16", AARCH64, "7product17h|9attention17h", ("fmla", 24), 96, NEON),
    ("armv7-neon, 2 × 4", ARMV7, "two_rows", ("vmull", 8), 128, ["A72"]),
]


def assembly(target: str) -> list[str]:
    """Builds the kernels and returns the compiler's assembly."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", "target")).absolute() / "mca"
    folder.mkdir(parents=True, exist_ok=True)
    rustc = ["cargo", "rustc", "--quiet", "--release", "--locked", "-p", "constancy-kernels", "--lib"]
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout.strip()
    env = dict(os.environ)
    if not Path(sysroot, "lib/rustlib", target, "lib").is_dir():
        rustc += ["-Z", "build-std=std,panic_unwind"]
        env["RUSTC_BOOTSTRAP"] = "1"
    # A target folder of its own, so that a fresh build's assembly lies next to it; one file, whatever the profile says.
    file = folder / f"{target}.s"
    command = [*rustc, "--target", target, "--target-dir", folder, "--", f"--emit=asm={file}", "-Ccodegen-units=1"]
    subprocess.run(command, check=True, env=env, cwd=Path(__file__).parent.parent)
    return file.read_text().splitlines()


def innermost_loops(lines: list[str]):
    """Yields (function, instructions) for every loop with one branch, the one that closes it."""
    function, labels = "", {}
    for i, line in enumerate(lines):
        if label := re.match(r"^([\w.$]+):", line):
            labels[label[1]] = i
            if not label[1].startswith(".") and not label[1].isdigit():
                function = label[1]
        branch = re.match(r"\s+(?:b\.?\w{2}|cbn?z\s+\w+,)\s+([\w.]+)$", line.rstrip())
        # `2b`: the local label 2, backwards.
        name = branch and (branch[1][:-1] if re.fullmatch(r"\d+b", branch[1]) else branch[1])
        if not name or name not in labels:
            continue
        block = [text.strip() for text in lines[labels[name] + 1 : i + 1]]
        block = [text for text in block if text and not text.startswith((".", "//", "@", "#")) and not text.endswith(":")]
        if sum(bool(re.match(r"b[. a-z]|cb|tb|ret", text)) and not re.match(r"bi[cft]\b", text) for text in block) == 1:
            yield function, block


def cycles(tool: str, target: str, cpu: str, block: list[str]) -> float:
    """Cycles per round, once the loop is in steady state."""
    source = "\n".join(re.sub(r"\s(\.L\w+|\d+b)$", " .", text) for text in block)
    triple = ["-mtriple=aarch64", "-mattr=+dotprod,+i8mm"] if target == AARCH64 else ["-mtriple=armv7", "-mattr=+neon"]

    def total(iterations: int) -> int:
        command = [tool, *triple, f"-mcpu={cpu}", f"-iterations={iterations}"]
        out = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
        return int(re.search(r"Total Cycles:\s+(\d+)", out)[1])

    return (total(300) - total(100)) / 200


def bound(block: list[str], pipes: list[dict[str, float]]) -> float:
    """Cycles that the busiest pipe needs."""
    return max(sum(n for text in block for op, n in pipe.items() if re.match(op, text)) for pipe in pipes)


def main() -> None:
    tools = [name for v in range(30, 16, -1) if (name := shutil.which(f"llvm-mca-{v}"))]
    if not tools:
        sys.exit("llvm-mca of LLVM 17 or later is missing: apt-get install llvm-19")
    loops = {target: list(innermost_loops(assembly(target))) for target in (AARCH64, ARMV7)}
    print("| loop | products | instructions | core | bound, cycles | llvm-mca, cycles | products a cycle |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for title, target, function, (op, count), products, cores in LOOPS:
        found = [
            block
            for name, block in loops[target]
            if re.search(function, name) and sum(text.split()[0].split(".")[0] == op for text in block) == count
        ]
        if not found:
            sys.exit(f"{title}: no loop with {count} {op} in a function like {function}")
        block = min(found, key=len)
        for core in cores:
            cpu, pipes = CORES[core]
            took, least = cycles(tools[0], target, cpu, block), bound(block, pipes)
            print(
                f"| {title} | {products} | {len(block)} | {core} | {least:.0f} "
                f"| {took:.1f} ({100 * least / took:.0f} %) | {products / took:.1f} |"
            )
        if "--loops" in sys.argv:
            print("\n```asm", *block, "```\n", sep="\n")


if __name__ == "__main__":
    main()
