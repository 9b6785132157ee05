#!/usr/bin/env python3
"""Instructions that the kernels run for one image through CLIP ViT-B/32, part by part, as a table of docs/engine.md.

    tools/instructions.py

Runs crates/kernels/examples/vit_b32.rs on emulated cores with a plugin that counts. Needs what tools/setup-cross.sh installs,
and a qemu-aarch64 that loads plugins, which a static one does not (Debian: qemu-user).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TARGET = "aarch64-unknown-linux-gnu"
PARTS = ["products", "epilogues", "rows", "attention", "patches"]
CORES = [("neon", "cortex-a72"), ("neon-dotprod", "cortex-a76"), ("neon-i8mm", "max")]


def main() -> None:
    root = Path(__file__).parent.parent
    if not shutil.which("qemu-aarch64"):
        sys.exit("qemu-aarch64 is missing: apt-get install qemu-user")
    folder = Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).absolute()
    cargo = ["cargo", "build", "--quiet", "--release", "--locked", "-p", "constancy-kernels", "--example", "vit_b32"]
    env = os.environ | {"CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER": "aarch64-linux-gnu-gcc"}
    subprocess.run([*cargo, "--target", TARGET, "--target-dir", folder], check=True, cwd=root, env=env)
    plugin = folder / "instructions.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", plugin, root / "tools/instructions.c"], check=True)

    def ran(isa: str, core: str, part: str) -> int:
        """Instructions of a run with that part alone, including its preparation."""
        emulator = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", core, "-plugin", plugin]
        command = [*emulator, folder / TARGET / "release/examples/vit_b32", part]
        env = os.environ | {"CONSTANCY_ISA": isa}
        out = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        assert out.stdout.startswith(isa), out.stdout
        return int(re.search(r"instructions (\d+)", out.stderr)[1])

    print(f"| millions of instructions | {' | '.join(PARTS)} |")
    print("| --- |" + " --- |" * len(PARTS))
    for isa, core in CORES:
        nothing = ran(isa, core, "nothing")
        counts = [(ran(isa, core, part) - nothing) / 1e6 for part in PARTS]
        print(f"| {isa} | {' | '.join(f'{n:.1f}' for n in counts)} |")


if __name__ == "__main__":
    main()
