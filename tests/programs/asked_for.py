"""A program that asks for SMC by name: `asked_for.py HOW`, HOW being af_smc, af_smc6 or ipproto_smc.

Both ends are in this process; it says what its sockets say they are, and what came through."""

import ctypes
import os
import socket
import sys
import threading

AF_SMC, IPPROTO_SMC, SMCPROTO_SMC6 = 43, 256, 1
LIBC = ctypes.CDLL(None, use_errno=True)
HOW = {
    "af_smc": (AF_SMC, 0, socket.AF_INET, "127.0.0.1"),
    "af_smc6": (AF_SMC, SMCPROTO_SMC6, socket.AF_INET6, "::1"),
    "ipproto_smc": (socket.AF_INET, IPPROTO_SMC, socket.AF_INET, "127.0.0.1"),
    "ipproto_smc6": (socket.AF_INET6, IPPROTO_SMC, socket.AF_INET6, "::1"),
}
domain, protocol, family, address = HOW[sys.argv[1]]


def made():
    """The C function makes it, since Python has no addresses for AF_SMC."""
    fd = LIBC.socket(domain, socket.SOCK_STREAM, protocol)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return socket.socket(family, socket.SOCK_STREAM, fileno=fd)


def domain_of(peer):
    return peer.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)


def serve():
    peer = listener.accept()[0]
    print("accepted", domain_of(peer), flush=True)
    while data := peer.recv(100):
        peer.sendall(data)


listener = made()
listener.bind((address, 0))
listener.listen()
server = threading.Thread(target=serve)
server.start()
client = made()
client.connect(listener.getsockname())
for turn in range(20):
    client.sendall(b"message %04d" % turn)
    assert client.recv(100) == b"message %04d" % turn
client.close()
server.join()
print("domains", domain_of(listener), "verified", 20)
