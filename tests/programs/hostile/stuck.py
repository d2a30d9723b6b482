"""A peer whose end TCP cannot deliver, since more bytes lie there than the other end has room for:
`stuck.py survive|die PORT WHAT`.

The survivor serves. Once it is told to it fills the ring until it waits for room, in the call that WHAT names, and says how
that ended. The other one has written more than TCP takes: "early", before the connection moved; "shared" likewise, and a
child that has the connection lives for a while longer; or "late", past the library, on a connection that has moved. Then it
waits to be killed."""

import ctypes
import os
import select
import signal
import socket
import sys
import time

BYTE = b"x"
FLOOD = bytes(1 << 16)
MORE_THAN_TCP_TAKES = b"!" * (8 << 20)


def waiting(peer, how):
    """What sleeps until there is room for more."""
    if how == "poll":
        poll = select.poll()
        poll.register(peer, select.POLLOUT)
        return poll.poll
    if how == "select":
        return lambda: select.select([], [peer], [])
    events = select.epoll()
    events.register(peer, select.EPOLLOUT | (select.EPOLLET if how == "edge" else 0))
    return events.poll


def fill(peer, how):
    """Sends until the peer is gone."""
    peer.setblocking(how == "send")
    wait_for_room = None if how == "send" else waiting(peer, how)
    while True:
        try:
            peer.send(FLOOD)
        except BlockingIOError:
            wait_for_room()
        except OSError as error:
            return type(error).__name__


def survive(port, how):
    listener = socket.create_server(("127.0.0.1", port))
    peer = listener.accept()[0]
    while peer.recv(1):
        peer.send(BYTE)
        if peer.recv(1, socket.MSG_PEEK) == b"!":
            break
    for _ in range(3):
        peer.recv(1)
        peer.send(BYTE)
    # The other one has all that it needs to move.
    sys.stdin.readline()
    print("gone:", fill(peer, how), flush=True)


def connected(port, turns):
    peer = socket.create_connection(("127.0.0.1", port))
    for _ in range(turns):
        peer.send(BYTE)
        peer.recv(1)
    return peer


def stuck_before_the_move(port):
    peer = connected(port, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(MORE_THAN_TCP_TAKES))
    peer.setblocking(False)
    peer.send(MORE_THAN_TCP_TAKES)
    peer.setblocking(True)
    for _ in range(3):
        peer.recv(1)
    return peer


def stuck_afterwards(port):
    peer = connected(port, 20)
    peer.send(b"!!!")
    for _ in range(3):
        peer.recv(1)
    kernel = ctypes.CDLL("libc.so.6")
    while kernel.send(peer.fileno(), MORE_THAN_TCP_TAKES, 1 << 20, socket.MSG_DONTWAIT) > 0:
        pass
    return peer


def outlive_parent():
    """In a child, which has the connection, too."""
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.01)
        time.sleep(0.5)
        print("the last one", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def die(port, when):
    peer = stuck_afterwards(port) if when == "late" else stuck_before_the_move(port)
    if when == "shared":
        outlive_parent()
    print("stuck", flush=True)
    while True:
        signal.pause()


role, port, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
(survive if role == "survive" else die)(port, what)
