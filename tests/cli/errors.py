# SPDX-License-Identifier: GPL-2.0-or-later
"""Mistakes are answered with one line that says what to do, status 1, and nothing left behind."""
import os
import re
import shutil
import socket
import subprocess

import common
from common import LODGE, firmware, path, run


def one_line(done, *words):
    text = done.stderr.decode()
    assert done.returncode == 1, (done.returncode, text)
    assert text.endswith("\n") and text.count("\n") == 1, text
    assert text.startswith("lodge"), text
    for word in words:
        assert word in text, (word, text)


HALT = firmware("halt", common.HALT)
TEXT = path("text")
with open(TEXT, "w", encoding="ascii") as file:
    file.write("not a kernel\n" * 100)


def options():
    one_line(run(), "--kernel")
    one_line(run("--nothing"), "--nothing", "--help")
    one_line(run("--kernel", TEXT, "stray"), "stray")
    one_line(run("--kernel"), "FILE")
    one_line(run("--kernel", TEXT, "--firmware", HALT), "only one")
    one_line(run("--firmware", HALT, "--append", "x"), "--kernel")
    one_line(run("--firmware", HALT, "--cpus", "0"), "--cpus")
    one_line(run("--firmware", HALT, "--cpus", "300"), "255")
    one_line(run("--firmware", HALT, memory="lots"), "--memory")
    one_line(run("--firmware", HALT, memory="0.5K"), "--memory")
    one_line(run("--firmware", HALT, accel="fast"), "auto|kvm|soft|kvm,soft")
    one_line(run("--firmware", HALT, "--uuid", "12"), "--uuid")
    one_line(run("--firmware", HALT, "--paused"), "--control")
    one_line(run("--firmware", HALT, "--serial", "nonsense"), "--serial", "pty")
    one_line(run("--firmware", HALT, "--console", "stdio"), "already in use")
    one_line(run("--firmware", HALT, "--port", "noname"), "NAME=BACKEND")


def commands():
    def lodge(*words):
        return subprocess.run([LODGE, *words], capture_output=True, check=False, timeout=common.LIMIT)
    one_line(lodge("fly"), "fly", "lodge help")
    one_line(lodge("help", "fly"), "fly")
    assert lodge("help").returncode == 0 and b"run" in lodge("help").stdout
    assert lodge("version").stdout.startswith(b"lodge ")
    assert lodge("help", "run").stdout == lodge("run", "--help").stdout


def files():
    one_line(run("--kernel", path("none")), path("none"), "No such file")
    one_line(run("--kernel", common.FOLDER.name), "no regular file")
    one_line(run("--kernel", TEXT), TEXT)
    one_line(run("--firmware", "/dev/null"), "no regular file")
    empty = path("empty")
    with open(empty, "wb"):
        pass
    one_line(run("--firmware", empty), "firmware")
    one_line(run("--kernel", empty), empty)


def memory():
    one_line(run("--firmware", HALT, memory="400G"), "--memory")
    one_line(run("--firmware", HALT, memory="900G"), "memory")


def disks():
    missing, disk = path("missing.qcow2"), path("disk.raw")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    one_line(run("--firmware", HALT, "--disk", missing), missing, "No such file")
    one_line(run("--firmware", HALT, "--disk", "/dev/null"), "/dev/null")
    one_line(run("--firmware", HALT, "--disk", disk + ",cache=fast"), "cache", "writeback")
    one_line(run("--firmware", HALT, "--disk", disk + ",fast"), "fast", "cache")
    one_line(run("--firmware", HALT, "--disk", disk + ",format=raw,serial=" + "x" * 21), "20 characters")
    one_line(run("--firmware", HALT, "--disk", disk + ",format=qcow2"), disk)


def disk_in_use():
    disk = path("used.raw")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    words = ("--firmware", HALT, "--disk", disk + ",format=raw")
    process = common.start(*words, "--control", path("used.sock"))
    try:
        client = common.Client(path("used.sock"))
        one_line(run(*words), disk, "lodge-vmm")
        client.ask("quit")
    finally:
        assert process.wait(common.LIMIT) == 6
    assert run("--firmware", firmware("exit", common.EXIT_33), "--disk", disk + ",format=raw").returncode == 33


def networks():
    one_line(run("--firmware", HALT, "--net", "carrier-pigeon"), "user, bridge=NAME, tap=NAME or none")
    one_line(run("--firmware", HALT, "--net", "user,forward=22"), "2222:22")
    one_line(run("--firmware", HALT, "--net", "user,forward=0:22"), "2222:22")
    one_line(run("--firmware", HALT, "--net", "tap=x,forward=1:2"), "user network")
    one_line(run("--firmware", HALT, "--net", "user,mac=01:00:00:00:00:00"), "unicast")
    one_line(run("--firmware", HALT, "--net", "bridge=lodge-no-such"), "lodge-no-such")


def control_paths():
    one_line(run("--firmware", HALT, "--control", TEXT), "no socket")
    assert os.path.exists(TEXT)
    one_line(run("--firmware", HALT, "--control", "/nonexistent/x"), "/nonexistent/x")
    one_line(run("--firmware", HALT, "--control", path("x" * 120)), "longer")
    one_line(run("--firmware", HALT, "--serial", "unix:" + TEXT + ",server"), "no socket")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path("stale"))
    stale.close()
    assert run("--firmware", firmware("exit", common.EXIT_33), "--control", path("stale")).returncode == 33
    served = socket.socket(socket.AF_UNIX)
    served.bind(path("served"))
    served.listen()
    one_line(run("--firmware", HALT, "--control", path("served")), "in use")


def nothing_left():
    where = path("left")
    done = run("--firmware", firmware("exit", common.EXIT_33), "--control", where, "--serial",
               "unix:" + path("serial") + ",server")
    assert done.returncode == 33
    assert not os.path.exists(where) and not os.path.exists(path("serial"))
    one_line(run("--firmware", HALT, "--control", where, memory="400G"))
    assert not os.path.exists(where)


def kvm_without_permission():
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return "needs root and setpriv"
    os.chmod(common.FOLDER.name, 0o755)
    if os.path.exists("/dev/kvm") and os.stat("/dev/kvm").st_mode & 0o006:
        return "everybody may use /dev/kvm here"
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           *common.command("--firmware", HALT, accel="kvm")], stdin=subprocess.DEVNULL,
                          capture_output=True, check=False, timeout=common.LIMIT)
    if done.returncode == 127 or b"setpriv" in done.stderr:
        return "the build folder is not readable by others"
    one_line(done, "/dev/kvm")
    return None


def dry_run():
    done = run("--firmware", HALT, "--dry-run", "--serial", "none", "--net", "none")
    description = common.json.loads(done.stdout)
    assert done.returncode == 0
    assert description["memory_bytes"] == 16 << 20 and description["accel"] == "soft"


def manual():
    """Every option is in the manual, and the manual names no other."""
    text = subprocess.run([LODGE, "run", "--help"], capture_output=True, check=True).stdout.decode()
    options_known = set(re.findall(r"^  (--[a-z-]+)", text, re.M))
    with open(os.path.join(common.DOCS, "lodge-run.1.md"), encoding="utf-8") as f:
        options_told = set(re.findall(r"^\| `(--[a-z-]+)", f.read(), re.M))
    assert options_known == options_told, options_known ^ options_told


common.main([options, commands, files, memory, disks, disk_in_use, networks, control_paths, nothing_left,
             kvm_without_permission, dry_run, manual])
