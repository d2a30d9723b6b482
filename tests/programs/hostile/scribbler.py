"""A peer that keeps to the rules until its connection runs through shared memory, and then writes whatever comes to its
mind over everything but the rings: `scribbler.py client|server PORT SEED WHERE`.

It knows nothing of the library but the layout of the memory (shim/uapi/src/group.rs), which it finds in its own maps."""

import ctypes
import os
import random
import re
import socket
import sys
import time

SIDE = 1024 * (64 + 128) + 4096
CONNS = 4096 + 2 * SIDE
RINGS = CONNS + 512 * 512
AREAS = {"cursors": (CONNS, CONNS + 512), "waiters": (4096, CONNS), "all": (0, RINGS)}
CONN_BYTES, END_BYTES, SWITCH_AT, WAITERS = 512, 192, 16, 128
MARKED, ASKED = 36, 64 + 12
CONNECTIONS = 4
SECONDS = 0.15

role, port, seed, where = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
random.seed(seed)
ROUNDS = 2 if where == "switch" else 30
listener = socket.create_server(("127.0.0.1", port)) if role == "server" else None


def converse():
    """Round trips with an echo server, or as one: until the connection has moved, or for "switch" until it is about to."""
    if listener:
        peer = listener.accept()[0]
        for turn in range(ROUNDS):
            peer.sendall(peer.recv(1 << 16))
        return peer
    peer = socket.create_connection(("127.0.0.1", port))
    # What was written over earlier may be in the way of this one: it need not come far.
    peer.settimeout(0.2)
    until = time.monotonic() + 0.5
    for turn in range(ROUNDS):
        if time.monotonic() > until:
            break
        peer.sendall(b"%064d" % turn)
        left = 64
        while left > 0 and (part := peer.recv(left)):
            left -= len(part)
    return peer


def group():
    """Where the newest group is."""
    with open("/proc/self/maps") as maps:
        found = [line for line in maps if "/memfd:preloop-group" in line]
    if not found:
        sys.exit("the connection did not move")
    return int(re.match("[0-9a-f]+", found[0])[0], 16)


def value(old):
    """Noise, extremes, and the most harmful of lies: those that are nearly right."""
    return random.choice(
        (
            random.getrandbits(64),
            random.getrandbits(random.randrange(1, 20)),
            0,
            (1 << 64) - 1,
            old + random.randrange(-70_000, 70_000) & (1 << 64) - 1,
            old ^ 1 << random.randrange(64),
        )
    )


def scribble(base, start, end):
    word = ctypes.c_uint64.from_address(base + random.randrange(start, end, 8))
    word.value = value(word.value)


def full_bell():
    """A bell that somebody has and never empties, full: who rang it and waited would wait for ever. Its name."""
    name = [random.getrandbits(64) | 1, random.getrandbits(64)]
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.bind("\0preloop/bell/%016x%016x" % tuple(name))
    ringer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ringer.setblocking(False)
    try:
        while True:
            ringer.sendto(b"", bell.getsockname())
    except BlockingIOError:
        pass
    kept.append(bell)
    return name


def never_awake(base, name, turn):
    """The active side's first waiter has that bell, waits at every connection, and begins a new sleep all the time."""
    line = (ctypes.c_uint64 * 3).from_address(base + 4096 + SIDE)
    line[0], line[1], line[2] = 2 * turn + 1, name[0], name[1]
    for conn in range(CONNECTIONS):
        ctypes.c_uint64.from_address(base + CONNS + conn * CONN_BYTES + END_BYTES + WAITERS).value = 1


def attack_bell(peer):
    """The echo server must go on to answer, at its usual speed, whoever rings in vain."""
    base, name = group(), full_bell()
    for turn in range(300):
        never_awake(base, name, turn)
        peer.sendall(b"x" * 64)
        time.sleep(0.0001)
    print("rung at", flush=True)


def attack_with_many_bells(peer):
    """Whoever rings is charged for what nobody takes off: the server must go on to ring the bells of others."""
    base = group()
    peer.setblocking(False)
    for turn in range(40):
        name = [random.getrandbits(64) | 1, random.getrandbits(64)]
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bell.bind("\0preloop/bell/%016x%016x" % tuple(name))
        kept.append(bell)
        for ring in range(11):
            never_awake(base, name, turn * 11 + ring)
            peer.send(b"x" * 64)
            # Its own bell rings no more.
            until = time.monotonic() + 0.2
            left = 64
            while left > 0 and time.monotonic() < until:
                try:
                    left -= len(peer.recv(left))
                except BlockingIOError:
                    pass


def attack_switch(peer):
    """The direction moved at an offset that lies behind what was received."""
    base = group()
    for conn in range(CONNECTIONS):
        ctypes.c_uint64.from_address(base + CONNS + conn * CONN_BYTES + END_BYTES + SWITCH_AT).value = 1
    peer.setblocking(False)
    for _ in range(100):
        try:
            peer.send(b"x")
        except OSError:
            break


def attack_back(peer):
    """It wants to change back to TCP, or has, or not, and lies about what it has read: words of its own end,
    which an honest peer stores, too."""
    base = group()
    peer.setblocking(False)
    until = time.monotonic() + 2 * SECONDS
    while time.monotonic() < until:
        # The server made the group, and is its first side.
        end = base + CONNS + random.randrange(CONNECTIONS) * CONN_BYTES + (0 if listener else END_BYTES)
        ctypes.c_uint32.from_address(end + ASKED).value = random.randrange(6)
        if random.random() < 0.01:
            ctypes.c_uint32.from_address(end + MARKED).value = random.randrange(2)
        if random.random() < 0.001:
            scribble(end, 0, END_BYTES)
        try:
            peer.send(b"x" * 64 if not listener else peer.recv(1 << 16))
            peer.recv(random.randrange(1000))
        except OSError:
            pass


SPECIAL = {"back": attack_back, "bell": attack_bell, "bells": attack_with_many_bells, "switch": attack_switch}


def attack(peer):
    if where in SPECIAL:
        return SPECIAL[where](peer)
    base, (start, end) = group(), AREAS[where]
    peer.setblocking(False)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for _ in range(random.randrange(200)):
            scribble(base, start, end)
        if where == "all":
            # The blocks of its own connections are a small part of all: they get their share.
            scribble(base, CONNS, CONNS + 4096)
        try:
            peer.send(b"x" * 64 if not listener else peer.recv(1 << 16))
            peer.recv(random.randrange(1000))
        except OSError:
            pass


kept = []
for turn in range(1 if listener else CONNECTIONS):
    try:
        kept.append(converse())
    except OSError:
        continue
    print("scribbling", flush=True)
    attack(kept[-1])
print("scribbled", flush=True)
# A hostile process does not tidy up.
os._exit(0)
