"""Stores pseudo-random values in redis, sixteen requests at a time, and reads them back: `redis_contents.py PORT`.

Keeps the connection open until its input ends.
"""

import random
import socket
import sys

BATCHES, BATCH = 60, 16


def value(number):
    generator = random.Random(number)
    return generator.randbytes(generator.choice([0, 1, 60, 5000, 200_000]))


def request(*words):
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), parts)


def expect(stream, reply, what):
    received = stream.read(len(reply))
    if received != reply:
        raise ValueError(f"{what}: {len(received)} bytes differ from the {len(reply)} that were expected")


with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as peer, peer.makefile("rb") as stream:
    for batch in range(BATCHES):
        numbers = range(batch * BATCH, (batch + 1) * BATCH)
        peer.sendall(b"".join(request(b"SET", b"key %d" % number, value(number)) for number in numbers))
        for number in numbers:
            expect(stream, b"+OK\r\n", f"SET {number}")
        peer.sendall(b"".join(request(b"GET", b"key %d" % number) for number in numbers))
        for number in numbers:
            data = value(number)
            expect(stream, b"$%d\r\n%b\r\n" % (len(data), data), f"GET {number}")
    print("verified", flush=True)
    sys.stdin.read()
