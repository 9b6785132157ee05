#!/usr/bin/env python3
"""Boots an emulated ARM board with virtual cameras, installs the package with dpkg and runs the daemon as a service.
Breaks the cameras in every way their driver offers; each time the daemon must report the fault and recover. Then
upgrades, removes and purges the package and checks that nothing is left.

    make board                          builds the package, then runs this
    board/board.py PACKAGE.deb FOLDER
    board/board.py … --without-camera   leaves out the camera driver: must fail

The board is `qemu-system-aarch64 -M virt` with a Cortex-A76 and Debian's kernel. The kernel module `vivid` provides the
cameras; the broker is a mosquitto on this machine. FOLDER keeps the downloads and the console log.

Everything here waits for conditions. The only limit in real time is `--limit-s`, for the whole run.
"""
import argparse, pathlib, sys, time

sys.dont_write_bytecode = True
import cameras, machine, package
from broker import Broker
from daemon import Daemon
from machine import Deadline, Failed
from report import say


def run(args):
    begun = time.monotonic()
    deadline = Deadline(args.limit_s)
    work = machine.prepare(args.folder.resolve(), args.package.resolve(), without=["vivid"] if args.without_camera else [])
    say(f"disk with {args.package.name} made in {time.monotonic() - begun:.0f} s")
    broker = Broker(work, deadline)
    try:
        board = machine.Board(work, deadline, args.cores)
        say(f"booted in {board.boot_s:.0f} s: {board.run('uname -srm')}, {args.cores} cores of Cortex-A76")
        try:
            daemon = Daemon(board, broker)
            for case in [package.install, *cameras.CASES, package.upgrade, package.purge]:
                case(daemon)
        finally:
            board.off()
    finally:
        broker.close()
    say(f"all passed in {time.monotonic() - begun:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--without-camera", action="store_true")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--limit-s", type=float, default=2400, help="of the whole run, seconds (default: %(default)s)")
    try:
        run(parser.parse_args())
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")


if __name__ == "__main__":
    main()
