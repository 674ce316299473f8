# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: the protocol, the commands, hostile clients."""
import os
import re
import stat

import common
from common import Client, firmware, path, start

SOCKET = path("control")
HALT = firmware("halt", common.HALT)


def machine(*words):
    return start("--firmware", HALT, "--control", SOCKET, "--name", "probe", "--uuid",
                 "12345678-9abc-def0-1234-56789abcdef0", "--cpus", "2", *words)


def quit_machine(process):
    client = Client(SOCKET)
    assert client.ask("quit") == {"return": {}}
    event = client.event("SHUTDOWN")
    assert event["data"] == {"guest": False, "reason": "host-qmp-quit"}
    assert process.wait(common.LIMIT) == 6


def failure(reply, kind="GenericError"):
    assert reply["error"]["class"] == kind, reply
    assert reply["error"]["desc"]
    return reply["error"]["desc"]


def negotiation():
    process = machine()
    client = Client(SOCKET, negotiate=False)
    assert stat.S_IMODE(os.stat(SOCKET).st_mode) & 0o077 == 0
    assert set(client.greeting["QMP"]) == {"version", "capabilities"}
    assert "qmp_capabilities" in failure(client.ask("query-status"), "CommandNotFound")
    failure(client.ask("qmp_capabilities", enable=["oob"]))
    assert client.ask("qmp_capabilities", enable=[]) == {"return": {}}
    failure(client.ask("qmp_capabilities"), "CommandNotFound")
    quit_machine(process)


def queries():
    process = machine("--disk", disk())
    client = Client(SOCKET)
    names = {c["name"] for c in client.ask("query-commands")["return"]}
    for name in sorted(names - {"qmp_capabilities", "quit", "stop", "cont", "system_reset", "system_powerdown"}):
        assert "return" in client.ask(name), name
    assert client.ask("query-status")["return"] == {"status": "running", "running": True}
    assert client.ask("query-name")["return"] == {"name": "probe"}
    assert client.ask("query-uuid")["return"] == {"UUID": "12345678-9abc-def0-1234-56789abcdef0"}
    assert [c["cpu-index"] for c in client.ask("query-cpus-fast")["return"]] == [0, 1]
    assert client.ask("query-accelerator")["return"] == {"name": "soft", "requested": "soft"}
    block = client.ask("query-block")["return"][0]
    assert block["device"] == "disk0" and block["inserted"]["image"]["virtual-size"] == 1 << 20
    assert client.ask("query-blockstats")["return"][0]["stats"]["wr_operations"] == 0
    status = client.ask("x-lodge-status")["return"]
    assert status["state"] == "running" and len(status["cpus"]) == 2 and "mips" in status
    with open(os.path.join(common.DOCS, "lodge-vmm.8.md"), encoding="utf-8") as f:
        told = set(re.findall(r"`([a-z_-]+)`", "".join(x for x in re.findall(r"^\|([^|]*)\|", f.read(), re.M))))
    assert names <= told, names - told
    quit_machine(process)


def disk():
    name = path("disk.raw")
    with open(name, "wb") as f:
        f.truncate(1 << 20)
    return name + ",format=raw"


def run_states():
    process = machine("--paused")
    client, other = Client(SOCKET), Client(SOCKET)
    assert client.ask("query-status")["return"] == {"status": "prelaunch", "running": False}
    assert client.ask("cont") == {"return": {}}
    event = other.event("RESUME")
    assert event["timestamp"]["seconds"] > 1 << 30 and 0 <= event["timestamp"]["microseconds"] < 1000000
    assert client.ask("stop") == {"return": {}}
    assert client.ask("stop") == {"return": {}}
    other.event("STOP")
    assert client.ask("query-status")["return"] == {"status": "paused", "running": False}
    assert client.ask("cont") == {"return": {}}
    assert client.ask("system_powerdown") == {"return": {}}
    other.event("POWERDOWN")
    assert client.ask("system_reset") == {"return": {}}
    assert other.event("RESET")["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
    assert client.ask("query-status")["return"]["running"]
    quit_machine(process)


def guest_events():
    for code, name, data, ending in (
            (common.POWER_OFF, "SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}, 0),
            (common.PANIC, "GUEST_PANICKED", {"action": "pause"}, 2)):
        process = start("--firmware", firmware("event", code), "--control", SOCKET, "--paused")
        client = Client(SOCKET)
        client.ask("cont")
        got = client.event(name)["data"]
        assert data.items() <= got.items(), got
        assert process.wait(common.LIMIT) == ending


def ids():
    process = machine()
    client = Client(SOCKET)
    for value in (7, "text", None, {"a": [1, 2.5, True]}):
        client.send(common.json.dumps({"execute": "query-status", "id": value}).encode())  # and no newline
        assert client.reply()["id"] == value
        client.send(common.json.dumps({"execute": "no-such", "id": value}).encode())
        reply = client.reply()
        assert reply["id"] == value
        assert "no-such" in failure(reply, "CommandNotFound")
    client.send(b'{"execute":"query-name"}{"execute":\r\n"query-status"}')
    assert client.reply()["return"] == {"name": "probe"}
    assert client.reply()["return"]["running"]
    quit_machine(process)


BAD = [
    b"nonsense\n", b"}\n", b"]\n", b"{]\n", b'{"execute":}\n', b'{"execute"}\n', b"{}\n", b"[]\n", b"[[[]]]\n",
    b'{"execute":1}\n', b'{"execute":null}\n', b'{"execute":"stop","arguments":[]}\n',
    b'{"execute":"stop","arguments":{"x":1}}\n', b'{"execute":"stop","extra":1}\n',
    b'{"execute":"query-blockstats","arguments":{"query-nodes":"yes"}}\n', b'{"execute":"stop","execute":"cont"}\n',
    b'{"execute":"\\ud800"}\n', b'{"execute":"st\xc3\x28op"}\n', b'{"execute":"\\u0000"}\n', b'{"a\x01":1}\n',
    b"\x00\n", b"[1e999]\n", b"{" * 40 + b"\n", b"[" * 5000 + b"\n", b'{"execute":"' + b"x" * 70000 + b'"}\n',
]


def bad_messages():
    process = machine()
    client = Client(SOCKET)
    for message in BAD:
        client.send(message)
        failure(client.reply(), "GenericError")
        assert client.ask("query-name")["return"] == {"name": "probe"}, message
    client.send(b'{"execute": "unfinished \xff')
    assert client.ask("query-name")["return"] == {"name": "probe"}
    quit_machine(process)


def many_clients():
    process = machine()
    clients = [Client(SOCKET) for _ in range(16)]
    surplus = Client(SOCKET, negotiate=False)
    failure(surplus.greeting)
    clients.pop().close()
    common.wait_for("room for a client", room)
    for client in clients:
        assert client.ask("query-name")["return"] == {"name": "probe"}
        client.close()
    quit_machine(process)


def room():
    client = Client(SOCKET, negotiate=False)
    good = "QMP" in client.greeting
    client.close()
    return good


def deaf_client():
    """One that asks and never reads is cut off; others are served meanwhile."""
    process = machine()
    deaf, other = Client(SOCKET), Client(SOCKET)
    deaf.socket.setblocking(False)
    question, sent = b'{"execute":"query-commands"}' * 100, True
    for _ in range(2000):
        try:
            deaf.send(question)
        except BlockingIOError:
            pass
        except OSError:
            sent = False
            break
        assert other.ask("query-name")["return"] == {"name": "probe"}
    assert not sent, "it was never cut off"
    quit_machine(process)


def vanishing_clients():
    process = machine()
    for i in range(100):
        client = Client(SOCKET, negotiate=False)
        client.send(b'{"execute":"qmp_capabilities"}' + b'{"execute":"query-commands"}' * (i % 5) + b'{"exe')
        client.close()
    assert Client(SOCKET).ask("query-status")["return"]["running"]
    quit_machine(process)


common.main([negotiation, queries, run_states, guest_events, ids, bad_messages, many_clients, deaf_client,
             vanishing_clients])
