# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared by the benchmarks: finds the programs, runs a machine, takes its CPU seconds."""
import os
import resource
import shutil
import statistics
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.environ.get("LODGE_CACHE", "/var/cache/lodge")


def find_lodge():
    for build in (os.environ.get("LODGE_BUILD"), "build/check", "build/quick", "build"):
        path = build and os.path.join(TOP, build, "src/cli/lodge")
        if path and os.path.exists(path):
            return path
    sys.exit("no built lodge: run ./quickstart or set LODGE_BUILD to a build folder")


def need_guest():
    for name in ("vmlinuz", "initramfs.gz"):
        if not os.path.exists(os.path.join(CACHE, name)):
            sys.exit(f"no guest in {CACHE}: run scripts/build-guests")


def qemu():
    path = shutil.which("qemu-system-x86_64")
    if not path:
        print("qemu-system-x86_64 is not installed (package qemu-system-x86): only Lodge is measured")
    return path


def run(command):
    """Runs a command to its end; its output and its CPU seconds (with children)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=600, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout.decode(errors="replace"), cpu


def lodge_command(lodge, initrd, append, memory=256, cpus=1, accel="soft"):
    return [lodge, "run", "--kernel", os.path.join(CACHE, "vmlinuz"), "--initrd", initrd, "--append",
            append, "--memory", f"{memory}M", "--cpus", str(cpus), "--accel", accel]


def qemu_command(program, initrd, append, memory=256, cpus=1):
    return [program, "-accel", "tcg", "-m", str(memory), "-smp", str(cpus), "-nographic", "-no-reboot",
            "-nodefaults", "-serial", "stdio", "-kernel", os.path.join(CACHE, "vmlinuz"), "-initrd",
            initrd, "-append", append]


def median(values):
    return statistics.median(values)
