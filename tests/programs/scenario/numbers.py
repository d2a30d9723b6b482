"""Descriptors that are closed in other ways than by close(2): their numbers become something else."""

import ctypes
import os
import socket

from ends import exactly, say

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fdopen.restype = ctypes.c_void_p
LIBC.fclose.argtypes = [ctypes.c_void_p]
SYS_CLOSE, SYS_CLOSE_RANGE = {"x86_64": (3, 436), "aarch64": (57, 436)}[os.uname().machine]


def by_syscall(fd):
    assert LIBC.syscall(SYS_CLOSE, fd) == 0


def by_range(fd):
    assert LIBC.syscall(SYS_CLOSE_RANGE, fd, fd, 0) == 0


def by_stream(fd):
    stream = LIBC.fdopen(fd, b"r")
    if not stream:
        # A connection that has moved cannot become a stream.
        os.close(fd)
        return
    assert LIBC.fclose(stream) == 0


WAYS = [by_syscall, by_range, by_stream]


def reused_client(at):
    with open("file", "w") as file:
        file.write("a file")
    for way in WAYS:
        for make in (at.open, at.moved):
            peer = make()
            fd = peer.detach()
            way(fd)
            file = os.open("file", os.O_RDONLY)
            say(way.__name__, "same", file == fd, os.read(file, 100))
            os.close(file)
            # The number is a connection's again, and that one has nothing of the old one either.
            peer = at.open()
            say("same", peer.fileno() == fd, "linger", peer.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
            at.warm(peer, 20)
            peer.close()


def reused_server(at):
    for _ in WAYS:
        for make in (at.open, at.moved):
            peer = make()
            say("end", peer.recv(1))
            again = at.open()
            at.warm(again, 20)
            say("end", again.recv(1))
