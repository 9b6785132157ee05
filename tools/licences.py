#!/usr/bin/env python3
"""Checks all dependencies against the rules of deny.toml: licences, banned crates, sources and wildcard versions.

These are the checks of `cargo deny check licenses bans sources` that need no text of a licence, so that `make lint` does
not have to build cargo-deny. Every feature and every machine that the project builds for counts.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"]
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def allows(expression, allowed):
    """Whether an SPDX expression can be met with the allowed licences. AND binds more tightly than OR."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)
    words, i = [], 0
    while i < len(tokens):
        if tokens[i + 1 : i + 2] == ["WITH"]:
            words.append(" ".join(tokens[i : i + 3]))
            i += 3
        else:
            words.append(tokens[i])
            i += 1

    def any_of():
        result = all_of()
        while words and words[0] in ("OR", "/"):
            words.pop(0)
            result = all_of() or result
        return result

    def all_of():
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            result = one() and result
        return result

    def one():
        word = words.pop(0)
        if word != "(":
            return word in allowed
        result = any_of()
        words.pop(0)
        return result

    return any_of() and not words


def metadata():
    """Every package that some machine's build uses."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--all-features"]
    command += [f"--filter-platform={target}" for target in TARGETS]
    data = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    used = {node["id"] for node in data["resolve"]["nodes"]}
    return [package for package in data["packages"] if package["id"] in used]


def faults(packages, rules):
    allowed = set(rules["licenses"]["allow"])
    banned = {entry["name"] for entry in rules["bans"]["deny"]}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["name"] in banned:
            yield f"{name} is banned"
        if not package["license"]:
            yield f"{name} names no licence"
        elif not allows(package["license"], allowed):
            yield f"{name}: the licence {package['license']} is not allowed"
        if package["source"] not in (None, REGISTRY):
            yield f"{name} comes from {package['source']}"
        if package["source"] is None:
            for dependency in package["dependencies"]:
                if dependency["req"] == "*" and "path" not in dependency:
                    yield f"{name} takes any version of {dependency['name']}"


def test():
    """The expressions whose meaning is easily got wrong."""
    allowed = {"MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"}
    cases = {
        "MIT": True,
        "GPL-3.0": False,
        "MIT OR GPL-3.0": True,
        "MIT/GPL-3.0": True,
        "MIT AND GPL-3.0": False,
        "GPL-3.0 OR MIT AND Zlib": True,
        "(GPL-3.0 OR MIT) AND Zlib": True,
        "(GPL-3.0 OR MIT) AND GPL-2.0": False,
        "Apache-2.0 WITH LLVM-exception": True,
        "Apache-2.0": False,
    }
    for expression, expected in cases.items():
        assert allows(expression, allowed) == expected, expression


def main():
    test()
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    packages = metadata()
    found = sorted(set(faults(packages, rules)))
    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{len(packages)} packages checked against deny.toml, {len(found)} faults")
    return 1 if found else 0


sys.exit(main())
