# SPDX-License-Identifier: GPL-2.0-or-later
"""The serial port on a terminal: raw while the guest runs, as before afterwards, however it ends."""
import fcntl
import os
import pty
import signal
import subprocess
import termios

import common
from common import firmware, vmm_of, wait_for

ECHO = firmware("echo", common.ECHO)


class Session:
    """`lodge run` on a terminal of its own."""

    def __init__(self, *words):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)

        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(common.command(*words), stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, preexec_fn=own_terminal)

    def read_until(self, text):
        got = b""
        os.set_blocking(self.master, False)

        def more():
            nonlocal got
            try:
                got += os.read(self.master, 4096)
            except BlockingIOError:
                pass
            return text in got
        wait_for(text, more)
        os.set_blocking(self.master, True)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def end(self, status):
        assert self.process.wait(common.LIMIT) == status, self.process.returncode
        assert termios.tcgetattr(self.slave) == self.before
        os.close(self.master)
        os.close(self.slave)


def running():
    session = Session("--firmware", ECHO)
    session.read_until(b"R")
    assert session.is_raw()
    return session


def keys_and_escape():
    session = running()
    for key in (b"x", b"\x03", b"\x1a", b"\x04", b"\r"):
        os.write(session.master, key)
        session.read_until(key)
    os.write(session.master, b"\x1d")
    session.end(6)


def guest_ends():
    session = Session("--firmware", firmware("print", common.printing(3000)))
    session.read_until(b"A" * 3000)
    session.end(33)


def not_started():
    session = Session("--firmware", ECHO, "--accel", "soft", "--memory", "400G")
    session.read_until(b"--memory")
    session.end(1)


def signals():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        session = running()
        session.process.send_signal(number)
        session.end(6)


def crash_of_the_launcher():
    session = running()
    session.process.send_signal(signal.SIGSEGV)
    session.end(-signal.SIGSEGV)


def vmm_killed():
    session = running()
    os.kill(vmm_of(session.process), signal.SIGKILL)
    session.read_until(b"Killed")
    session.end(4)


def stopped_and_continued():
    session = running()
    session.process.send_signal(signal.SIGTSTP)
    wait_for("the mode to come back", lambda: termios.tcgetattr(session.slave) == session.before)
    session.process.send_signal(signal.SIGCONT)
    wait_for("raw mode", session.is_raw)
    os.write(session.master, b"y")
    session.read_until(b"y")
    os.write(session.master, b"\x1d")
    session.end(6)


def serial_elsewhere():
    session = Session("--firmware", ECHO, "--serial", "none")
    vmm_of(session.process)
    assert not session.is_raw()
    os.write(session.master, b"\x03")
    session.end(6)


common.main([keys_and_escape, guest_ends, not_started, signals, crash_of_the_launcher, vmm_killed,
             stopped_and_continued, serial_elsewhere])
