# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared by the tests of `lodge run`: tiny firmware images, a TAP reporter, a client of the control socket."""
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
import traceback

LODGE, DOCS = sys.argv[1], sys.argv[2]
LIMIT = 30  # seconds that anything may take
FOLDER = tempfile.TemporaryDirectory(prefix="lodge-test-")


def path(name):
    return os.path.join(FOLDER.name, name)


# --- Firmware: real-mode code at f000:0000, with the reset vector jumping there ---

def out8(port, value):
    return b"\xba" + port.to_bytes(2, "little") + b"\xb0" + bytes([value]) + b"\xee"


def out16(port, value):
    return b"\xba" + port.to_bytes(2, "little") + b"\xb8" + value.to_bytes(2, "little") + b"\xef"


HALT = b"\xfa\xf4\xeb\xfd"
EXIT_33 = out8(0xf4, 16) + HALT
POWER_OFF = out16(0x604, 0x2000) + HALT
RESET = out8(0xcf9, 0x0f) + HALT
PANIC = out8(0x505, 1) + HALT
TRIPLE_FAULT = b"\x2e\x0f\x01\x1e\x40\x00" + b"\xcc" + HALT  # lidt cs:[0x40], which is limit 0; int3
FOREVER = b"\xfa\xeb\xfe"


def printing(count, rounds=1):
    """Prints @rounds times @count times A, then exits with 33."""
    return (b"\xbb" + rounds.to_bytes(2, "little") + b"\xb9" + count.to_bytes(2, "little") +
            b"\xba\xf8\x03\xb0\x41\xee\xe2\xfb\x4b\x75\xf2" + EXIT_33)


# Says R, then sends every byte back.
ECHO = out8(0x3f8, 0x52) + b"\xba\xfd\x03\xec\xa8\x01\x74\xfb\xb2\xf8\xec\xee\xb2\xfd\xeb\xf3"


def firmware(name, code):
    image = bytearray(b"\x00" * 65536)
    image[:len(code)] = code
    image[0xfff0:0xfff5] = b"\xea\x00\x00\x00\xf0"
    file = path(name + ".rom")
    with open(file, "wb") as f:
        f.write(image)
    return file


# --- Running ---

def command(*words, accel="soft", memory="16"):
    return [LODGE, "run", "--accel", accel, "--memory", memory, *words]


def run(*words, data=b"", **keys):
    """Runs `lodge run` to its end."""
    return subprocess.run(command(*words, **keys), input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=LIMIT, check=False)


def start(*words, **keys):
    return subprocess.Popen(command(*words, **keys), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def wait_for(what, condition):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited in vain for {what}")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def vmm_of(process):
    """The process id of lodge-vmm, once it is that program."""
    def look():
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as f:
            for pid in f.read().split():
                with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                    if comm.read().strip() == "lodge-vmm":
                        return int(pid)
        return None
    return wait_for("lodge-vmm", look)


class Client:
    """A client of the control socket; events are collected beside replies."""

    def __init__(self, where, negotiate=True):
        def connect():
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(where)
                return s
            except OSError:
                s.close()
                return None
        self.socket = wait_for(where, connect)
        self.socket.settimeout(LIMIT)
        self.buffer = b""
        self.events = []
        self.greeting = self.read()
        if negotiate:
            assert self.ask("qmp_capabilities") == {"return": {}}

    def read(self):
        while b"\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def reply(self):
        while True:
            message = self.read()
            if "event" not in message:
                return message
            self.events.append(message)

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, name, **arguments):
        message = {"execute": name}
        if arguments:
            message["arguments"] = arguments
        self.send(json.dumps(message).encode() + b"\n")
        return self.reply()

    def event(self, name):
        while not any(e["event"] == name for e in self.events):
            message = self.read()
            assert "event" in message, message
            self.events.append(message)
        return next(e for e in self.events if e["event"] == name)

    def is_readable(self, seconds):
        return bool(select.select([self.socket], [], [], seconds)[0])

    def close(self):
        self.socket.close()


def main(tests):
    """Runs the functions and reports in TAP. A function that returns text was skipped for that reason."""
    print(f"1..{len(tests)}")
    bad = 0
    for number, test in enumerate(tests, 1):
        name = test.__name__.replace("_", " ")
        try:
            skipped = test()
            print(f"ok {number} {name}" + (f" # SKIP {skipped}" if skipped else ""), flush=True)
        except Exception:  # pylint: disable=broad-except
            bad += 1
            for line in traceback.format_exc().splitlines():
                print("# " + line)
            print(f"not ok {number} {name}", flush=True)
    FOLDER.cleanup()
    sys.exit(bool(bad))
