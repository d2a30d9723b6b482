"""A dialogue over one connection in which the server speaks first: `dialogue.py server|client PORT`.

Both ends send pseudo-random messages in turn, and each compares what it hears with what the other must have said. At
the end both print the checksum of the whole. The client keeps the connection open until its input ends.
"""

import hashlib
import random
import socket
import struct
import sys

ROUNDS = 200


def message(speaker, turn):
    generator = random.Random(f"{speaker} {turn}")
    return generator.randbytes(generator.choice([1, 100, 3000, 70_000, 700_000]))


def receive(peer, count):
    data = bytearray()
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part:
            raise EOFError(f"ended after {len(data)} of {count} bytes")
        data += part
    return bytes(data)


def converse(peer, me):
    digest = hashlib.sha256()
    for turn in range(ROUNDS):
        speaker = "client" if turn % 2 else "server"
        said = message(speaker, turn)
        if speaker == me:
            peer.sendall(struct.pack("!I", len(said)) + said)
        else:
            (count,) = struct.unpack("!I", receive(peer, 4))
            heard = receive(peer, count)
            if heard != said:
                raise ValueError(f"turn {turn}: {count} bytes differ from the {len(said)} that were sent")
        digest.update(said)
    print("verified", digest.hexdigest(), flush=True)


side, port = sys.argv[1], int(sys.argv[2])
if side == "server":
    with socket.create_server(("127.0.0.1", port)) as listener:
        peer, _ = listener.accept()
    with peer:
        converse(peer, "server")
        if peer.recv(1):
            raise ValueError("bytes after the end")
else:
    with socket.create_connection(("127.0.0.1", port)) as peer:
        converse(peer, "client")
        sys.stdin.read()
