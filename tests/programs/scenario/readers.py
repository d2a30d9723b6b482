"""Readers that sleep while the connection moves under them: a thread waits in some call, another one's sends carry the
handshake on, and what the peer then answers comes through memory that did not exist when the wait began."""

import select
import socket
import threading
import time

from ends import exactly, say

MESSAGES = 24


def in_recv(peer):
    return peer.recv(100)


def in_recv_dup(peer):
    """The other thread uses another descriptor."""
    return peer.dup().recv(100)


def in_poll(peer):
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    say("poll", [events for _, events in poll.poll()])
    return peer.recv(100)


def in_select(peer):
    ready = select.select([peer], [], [])
    say("select", len(ready[0]), len(ready[1]), len(ready[2]))
    return peer.recv(100)


def in_epoll(peer, how=0):
    epoll = select.epoll()
    epoll.register(peer, select.EPOLLIN | how)
    say("epoll", [events for _, events in epoll.poll()])
    again = [events for _, events in epoll.poll(0.05)]
    say("unread", again)
    data = peer.recv(100)
    say("read", epoll.poll(0.05))
    if how == select.EPOLLONESHOT:
        epoll.modify(peer, select.EPOLLIN | how)
        say("armed again", epoll.poll(0.05))
    return data


def in_epoll_edge(peer):
    return in_epoll(peer, select.EPOLLET)


def in_epoll_oneshot(peer):
    return in_epoll(peer, select.EPOLLONESHOT)


def until_inner(wait_outer, inner):
    """The outer wait may end early once, when the connection moves; the inner set has the last word."""
    while True:
        outer = wait_outer()
        if events := [events for _, events in inner.poll(0)]:
            return outer, events


def in_nested_epoll(peer):
    inner, outer = select.epoll(), select.epoll()
    inner.register(peer, select.EPOLLIN)
    outer.register(inner, select.EPOLLIN)
    say("nested", until_inner(lambda: [events for _, events in outer.poll()], inner))
    data = peer.recv(100)
    say("read", inner.poll(0.05), outer.poll(0.05))
    return data


def in_poll_on_epoll(peer):
    epoll, poll = select.epoll(), select.poll()
    epoll.register(peer, select.EPOLLIN)
    poll.register(epoll, select.POLLIN)
    say("nested", until_inner(lambda: [events for _, events in poll.poll()], epoll))
    data = peer.recv(100)
    say("read", epoll.poll(0.05), poll.poll(50))
    return data


def in_waitall(peer):
    """All 6 bytes are wanted and come in two messages."""
    return peer.recv(6, socket.MSG_WAITALL)


def in_peek(peer):
    say("peek", peer.recv(100, socket.MSG_PEEK))
    return peer.recv(100)


def sleeper(at, wait):
    """This end has the sleeping reader; its main thread only sends."""
    peer = at.open()
    heard = []
    reader = threading.Thread(target=lambda: heard.append(wait(peer)))
    reader.start()
    time.sleep(0.1)
    for turn in range(MESSAGES):
        peer.sendall(b"%04d" % turn)
        at.meet()
    at.meet("all sent")
    reader.join()
    say("heard", heard)
    # It goes on in both directions, and the next sleep works as well.
    peer.sendall(b"on")
    say("next", exactly(peer, 3))
    at.meet("end")


def waker(at, answer):
    """The other end reads all of that without a word, and then answers."""
    peer = at.open()
    for turn in range(MESSAGES):
        assert exactly(peer, 4) == b"%04d" % turn
        at.meet()
    at.meet("all sent")
    time.sleep(0.1)
    for part in answer:
        peer.sendall(part)
        time.sleep(0.3)
    say("heard", exactly(peer, 2))
    time.sleep(0.1)
    peer.sendall(b"yes")
    at.meet("end")


def both_sides(name, wait, answer=(b"answer",)):
    """Two scenarios: the reader sleeps at the active end, and at the passive one."""
    globals()[f"active_{name}_client"] = lambda at: sleeper(at, wait)
    globals()[f"active_{name}_server"] = lambda at: waker(at, answer)
    globals()[f"passive_{name}_server"] = lambda at: sleeper(at, wait)
    globals()[f"passive_{name}_client"] = lambda at: waker(at, answer)


both_sides("recv", in_recv)
both_sides("recv_dup", in_recv_dup)
both_sides("poll", in_poll)
both_sides("select", in_select)
both_sides("epoll", in_epoll)
both_sides("epoll_edge", in_epoll_edge)
both_sides("epoll_oneshot", in_epoll_oneshot)
both_sides("nested_epoll", in_nested_epoll)
both_sides("poll_on_epoll", in_poll_on_epoll)
both_sides("waitall", in_waitall, (b"two", b"two"))
both_sides("peek", in_peek)
