# SPDX-License-Identifier: GPL-2.0-or-later
"""How guests end, and what the exit status and the output say of it."""
import json
import os
import signal
import subprocess

import common
from common import firmware, path, run, start, vmm_of, wait_for


def exit_port():
    assert run("--firmware", firmware("exit", common.EXIT_33)).returncode == 33


def power_off():
    assert run("--firmware", firmware("off", common.POWER_OFF)).returncode == 0


def reset_without_reboot():
    assert run("--firmware", firmware("reset", common.RESET), "--no-reboot").returncode == 0


def panic():
    done = run("--firmware", firmware("panic", common.PANIC))
    assert done.returncode == 2
    assert b"crashed" in done.stderr


def triple_fault():
    done = run("--firmware", firmware("triple", common.TRIPLE_FAULT), "--no-reboot")
    assert done.returncode == 2, done
    assert b"triple fault" in done.stderr


def all_output_is_there():
    rom = firmware("print", common.printing(50000))
    for _ in range(5):
        done = run("--firmware", rom)
        assert done.returncode == 33
        assert done.stdout == b"A" * 50000, len(done.stdout)


def late_reader():
    """The guest ends before anybody reads; more waits than a pipe holds."""
    process = start("--firmware", firmware("print-long", common.printing(60000, rounds=5)))
    vmm = vmm_of(process)
    wait_for("the end of lodge-vmm", lambda: not common.alive(vmm))
    out, _ = process.communicate(timeout=common.LIMIT)
    assert out == b"A" * 300000, len(out)
    assert process.returncode == 33


def reader_gone():
    process = start("--firmware", firmware("print-on", common.printing(60000, rounds=60000)))
    assert process.stdout.read(10) == b"A" * 10
    process.stdout.close()
    assert process.wait(common.LIMIT) == 6


def input_from_a_pipe():
    process = subprocess.Popen(common.command("--firmware", firmware("echo", common.ECHO)), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    assert process.stdout.read(1) == b"R"
    text = b"a pipe may hold \x1d and \x03\n"
    for i in range(len(text)):
        process.stdin.write(text[i:i + 1])
        process.stdin.flush()
        assert process.stdout.read(1) == text[i:i + 1]
    process.terminate()
    assert process.wait(common.LIMIT) == 6


def signals():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        process = start("--firmware", firmware("loop", common.FOREVER))
        vmm = vmm_of(process)
        process.send_signal(number)
        assert process.wait(common.LIMIT) == 6
        assert not common.alive(vmm)


def vmm_killed():
    process = start("--firmware", firmware("halt", common.HALT), "--status-json")
    os.kill(vmm_of(process), signal.SIGKILL)
    _, err = process.communicate(timeout=common.LIMIT)
    assert process.returncode == 4
    assert b"Killed" in err
    assert json.loads(err.splitlines()[-1]) == {"state": "gone", "exit-status": 4}


def parent_killed():
    control = path("orphan.sock")
    process = start("--firmware", firmware("loop", common.FOREVER), "--control", control)
    common.Client(control)  # it runs, and is locked in
    vmm = vmm_of(process)
    process.kill()
    process.wait()
    wait_for("the end of lodge-vmm", lambda: not common.alive(vmm))


def locked_in():
    control = path("jail.sock")
    process = start("--firmware", firmware("halt", common.HALT), "--control", control)
    common.Client(control)
    with open(f"/proc/{vmm_of(process)}/status", encoding="ascii") as f:
        rows = {key: value.strip() for key, value in (line.split(":", 1) for line in f)}
    process.terminate()
    process.wait(common.LIMIT)
    assert rows["Seccomp"] == "2" and rows["NoNewPrivs"] == "1", rows
    assert int(rows["CapEff"], 16) == 0 and int(rows["CapPrm"], 16) == 0, rows
    assert rows["Uid"].split()[0] != "0", rows


def status_line():
    where = path("status.json")
    done = run("--firmware", firmware("exit", common.EXIT_33), "--status-json=" + where)
    assert done.returncode == 33 and done.stderr == b""
    with open(where, encoding="utf-8") as f:
        status = json.loads(f.read())
    assert status["exit-status"] == 33 and status["state"] == "shutdown"
    assert status["accelerator"] == "soft" and status["instructions"] >= 4
    assert status["cpus"][0]["exits"]["port-write"] == 1
    assert status["memory-bytes"] == 16 << 20


def pty_and_file():
    log = path("serial.log")
    done = run("--firmware", firmware("print", common.printing(3000)), "--serial", "file:" + log)
    assert done.returncode == 33 and done.stdout == b""
    with open(log, "rb") as f:
        assert f.read() == b"A" * 3000
    process = start("--firmware", firmware("echo", common.ECHO), "--serial", "pty")
    line = process.stderr.readline().decode()
    assert line.startswith("lodge: serial is on /dev/pts/"), line
    fd = os.open(line.split()[-1], os.O_RDWR | os.O_NOCTTY)
    os.write(fd, b"x")
    got = b""
    while not got.endswith(b"x"):
        got += os.read(fd, 10)
    os.close(fd)
    process.terminate()
    assert process.wait(common.LIMIT) == 6


common.main([exit_port, power_off, reset_without_reboot, panic, triple_fault, all_output_is_there, late_reader,
             reader_gone, input_from_a_pipe, signals, vmm_killed, parent_killed, locked_in, status_line,
             pty_and_file])
