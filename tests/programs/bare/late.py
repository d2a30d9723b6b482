"""What only the kernel's socket can do, asked for when a connection has moved, whose peer is stopped: it is refused in bounded
time, and the connection goes on. Or whose peer is this process, or before a filter of system calls: it changes back. Each line is
a fact."""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import time

from both_ends import attempt, elsewhere, exchange, listen, stop


def asks(client):
    """SO_TIMESTAMP, TCP_ULP and O_ASYNC, one after the other."""
    yield attempt(lambda: client.setsockopt(socket.SOL_SOCKET, 29, 1))
    yield attempt(lambda: client.setsockopt(socket.IPPROTO_TCP, 31, b"tls"))
    yield attempt(lambda: fcntl.fcntl(client, fcntl.F_SETFL, os.O_ASYNC | os.O_RDWR))


def within(seconds, call):
    start = time.monotonic()
    answer = call()
    print(answer, "soon" if time.monotonic() - start < seconds else "late", flush=True)


def allow_all():
    """A filter that lets everything pass."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF_0000))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(program)))
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.addressof(whole), 0, 0) == 0


def moved(listener):
    client = socket.create_connection(listener.getsockname())
    exchange(client)
    return client


away, peer = elsewhere()
stop(peer)
within(5, lambda: list(asks(away)))
within(0.5, lambda: away.send(b"!", socket.MSG_OOB))
os.kill(peer, signal.SIGCONT)
print(exchange(away), flush=True)
os.write(2, b"refused until here\n")
listener = listen()
here = moved(listener)
within(0.5, lambda: next(asks(here)))
print(exchange(here), flush=True)
os.write(2, b"filtered from here\n")
last = moved(listener)
allow_all()
within(0.5, lambda: next(asks(last)))
print(exchange(last), flush=True)
