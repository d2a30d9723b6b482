"""The same four addresses and ports, again and again: each connection is a new one."""

import os
import socket

from ends import exactly, say

TURNS = 60
LINGER_ZERO = b"\1\0\0\0\0\0\0\0"


def again_client(at):
    # An address of its own, so that nobody else is given the port.
    pid = os.getpid()
    own = (f"127.{1 + (pid >> 16) % 250}.{pid >> 8 & 255}.{pid & 255}", 0)
    for turn in range(TURNS):
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        peer.bind(own)
        peer.connect(at.address)
        own = peer.getsockname()
        at.warm(peer, 6)
        peer.sendall(b"turn %04d" % turn)
        assert exactly(peer, 9) == b"turn %04d" % turn
        # Without this the port could not be used again at once. Every other time bytes are left unread.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        at.meet("close")
        peer.close()
        at.meet("closed")
    say("the same port", TURNS)


def again_server(at):
    ends = []
    for turn in range(TURNS):
        peer = at.open()
        at.warm(peer, 6)
        peer.sendall(exactly(peer, 9))
        if turn % 2:
            peer.sendall(b"left unread")
        at.meet("close")
        at.meet("closed")
        try:
            ends.append(peer.recv(1))
        except ConnectionResetError:
            ends.append("reset")
        peer.close()
    say("ends", ends)
