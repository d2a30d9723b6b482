"""epoll sets across the change-over and after it."""

import os
import random
import select
import socket
import threading
import time

from ends import exactly, fill, is_idle, say, stream

IN, OUT, RDHUP, ET, ONESHOT = select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP, select.EPOLLET, select.EPOLLONESHOT
QUIET = 0.05


def bits(epoll, timeout=QUIET):
    return sorted(events for _, events in epoll.poll(timeout))


def edges_client(at):
    """An edge comes with every arrival, before, during and after the change-over, and none comes twice."""
    for left in range(3):
        edges_of_one(at, left)


def edges_of_one(at, left):
    """Every third answer is left for the next turn."""
    peer = at.open()
    peer.setblocking(False)
    epoll = select.epoll()
    epoll.register(peer, IN | RDHUP | ET)
    for turn in range(24):
        at.meet("ask")
        peer.send(b"request")
        at.meet("sent")
        say(turn, "edge", bits(epoll, 1), "then", bits(epoll, 0.01))
        if turn % 3 != left:
            say("read", peer.recv(1000))
    at.meet("ending")
    at.meet("end")
    say("end", bits(epoll, 1), "then", bits(epoll), peer.recv(1000))


def edges_server(at):
    for _ in range(3):
        peer = at.open()
        for turn in range(24):
            at.meet("ask")
            exactly(peer, 7)
            peer.sendall(b"answer%02d" % turn)
            at.meet("sent")
        at.meet("ending")
        peer.shutdown(socket.SHUT_WR)
        at.meet("end")
        peer.recv(1)


def oneshot_client(at):
    peer = at.open()
    peer.setblocking(False)
    epoll = select.epoll()
    epoll.register(peer, IN | ONESHOT)
    for turn in range(16):
        at.meet("ask")
        peer.send(b"request")
        at.meet("sent")
        say(turn, bits(epoll, 1), "spent", bits(epoll, 0.01))
        epoll.modify(peer, IN | ONESHOT)
        say("armed with unread data", bits(epoll, 1), "spent", bits(epoll, 0.01))
        say("read", peer.recv(1000))
        epoll.modify(peer, IN | ONESHOT)
    say("nothing", bits(epoll))
    epoll.modify(peer, IN | OUT | ONESHOT)
    say("writable", bits(epoll, 1), bits(epoll))


def oneshot_server(at):
    peer = at.open()
    for turn in range(16):
        at.meet("ask")
        exactly(peer, 7)
        peer.sendall(b"answer%02d" % turn)
        at.meet("sent")


def two_sets_client(at):
    """One connection in two sets and twice in one of them, as a duplicate."""
    peer = at.open()
    twin = peer.dup()
    level, edge = select.epoll(), select.epoll()
    level.register(peer, IN)
    level.register(twin, IN)
    edge.register(peer, IN | ET)
    at.warm(peer)
    say("empty", bits(level), bits(edge, 0))
    say("empty", bits(level), bits(edge))
    at.meet()
    at.meet("sent")
    say("data", bits(level, 1), bits(edge, 1), "again", bits(level), bits(edge))
    level.unregister(peer)
    say("one left", bits(level))
    say("read", exactly(twin, 5), bits(level), bits(edge))
    twin.close()
    at.meet("second")
    at.meet("sent")
    say("gone", bits(level), "edge", bits(edge, 1))


def two_sets_server(at):
    peer = at.open()
    at.warm(peer)
    for step in ["", "second"]:
        at.meet(step)
        peer.sendall(b"hello")
        at.meet("sent")


def writable_edge_client(at):
    """A full connection, then space: one edge, level-triggered and edge-triggered, and exact contents."""
    peer = at.moved()
    sent = fill(peer)
    level, edge = select.epoll(), select.epoll()
    level.register(peer, OUT)
    edge.register(peer, OUT | IN | ET)
    say("full", bits(level), bits(edge))
    for turn in range(20):
        at.meet("drain")
        at.side.sendall(b"%020d" % sent)
        assert level.poll(5) and edge.poll(5), "no space"
        try:
            while True:
                sent += peer.send(stream(0, sent, sent + 100_000))
        except BlockingIOError:
            pass
    at.meet("last")
    peer.close()
    at.side.sendall(b"%020d" % sent)


def writable_edge_server(at):
    peer = at.moved()
    done = 0

    def take(upto):
        nonlocal done
        while done < upto:
            part = peer.recv(min(1 << 20, upto - done))
            assert part and part == stream(0, done, done + len(part)), done
            done += len(part)

    for turn in range(20):
        at.meet("drain")
        take(int(at.side.recv(20, socket.MSG_WAITALL)))
    at.meet("last")
    take(int(at.side.recv(20, socket.MSG_WAITALL)))
    say("verified, then", peer.recv(1))


CONNECTIONS = 300


def many_client(at):
    peers = [at.open() for _ in range(CONNECTIONS)]
    epoll = select.epoll()
    by_fd = {peer.fileno(): peer for peer in peers}
    for peer in peers:
        epoll.register(peer, IN)
    order = random.Random(1)
    for turn in range(8):
        order.shuffle(peers)
        for number, peer in enumerate(peers):
            peer.sendall(b"%04d%04d" % (turn, number))
        expected = {peer.fileno(): b"%04d%04d" % (turn, number) for number, peer in enumerate(peers)}
        while expected:
            ready = epoll.poll(5, 64)
            assert ready and len({fd for fd, _ in ready}) == len(ready), ready
            for fd, _ in ready:
                assert exactly(by_fd[fd], 8) == expected.pop(fd)
    say("answered", CONNECTIONS * 8, "quiet", bits(epoll))


def many_server(at):
    epoll = select.epoll()
    epoll.register(at.listener, IN)
    peers, gone = {}, 0
    while gone < CONNECTIONS:
        for fd, _ in epoll.poll(10, 16):
            if fd == at.listener.fileno():
                peer = at.listener.accept()[0]
                peers[peer.fileno()] = peer
                epoll.register(peer, IN | RDHUP | ET)
            elif data := peers[fd].recv(8):
                peers[fd].sendall(data)
            else:
                peers.pop(fd).close()
                gone += 1
    say("ended", gone)


def boundary(at):
    """Level-triggered, a message at a time, where the last ones of TCP and the first ones of the ring lie side by side."""
    for turn in range(8):
        peer = at.open()
        if at.role == "client":
            at.warm(peer, turn % 4)
            for number in range(14):
                peer.sendall(b"%08d" % number)
                time.sleep(0.002)
            at.meet("sent")
            say(turn, exactly(peer, 4))
        else:
            epoll = select.epoll()
            at.warm(peer, turn % 4)
            epoll.register(peer, IN)
            at.meet("sent")
            got = []
            while len(got) < 14 and epoll.poll(3):
                got.append(int(exactly(peer, 8)))
            say(turn, got == list(range(14)))
            peer.sendall(b"done")


boundary_client = boundary_server = boundary


def again_when_modified_client(at):
    """An edge that was told comes again when its entry is modified, if only into what it was."""
    for peer in (at.open(), at.moved()):
        epoll = select.epoll()
        epoll.register(peer, IN | ET)
        at.meet("ask")
        at.meet("sent")
        say("edge", bits(epoll, 1))
        # TCP may tell of the first message of a connection twice.
        bits(epoll)
        epoll.modify(peer, IN | ET)
        say("modified", bits(epoll, 1))


def again_when_modified_server(at):
    for peer in (at.open(), at.moved()):
        at.meet("ask")
        peer.sendall(b"hello")
        at.meet("sent")


def one_at_a_time_client(at):
    """Room for one event in the answer: whoever else is ready has a turn, too."""
    peer = at.moved()
    epoll = select.epoll()
    out, into = os.pipe()
    os.write(into, b"x")
    epoll.register(peer, OUT)
    epoll.register(out, IN)
    seen = {fd for _ in range(2000) for fd, _ in epoll.poll(1, 1)}
    say("both", seen == {peer.fileno(), out})


def one_at_a_time_server(at):
    at.moved().recv(1)


def late_client(at):
    """A thread sleeps in a set without connections; then one that has moved comes into it."""
    peer = at.moved()
    epoll = select.epoll()
    epoll.register(os.pipe()[0], IN)
    heard = []
    sleepers = [threading.Thread(target=lambda: heard.append([events for _, events in epoll.poll(5)])) for _ in range(12)]
    for sleeper in sleepers:
        sleeper.start()
    time.sleep(0.1)
    epoll.register(peer, IN)
    time.sleep(0.1)
    at.meet("send")
    for sleeper in sleepers:
        sleeper.join()
    say("heard", heard)
    at.meet("over")


def late_server(at):
    peer = at.moved()
    at.meet("send")
    peer.sendall(b"hello")
    at.meet("over")


def nested_late_client(at):
    """A set that was put into another one, or polled, before it had a connection, or while it had one with news."""
    peer = at.moved()
    inner, outer, poll = select.epoll(), select.epoll(), select.poll()
    outer.register(inner, IN)
    inner.register(peer, IN)
    say("quiet", bits(outer))
    at.meet("one")
    say("outer", bits(outer, 2), "inner", bits(inner, 1))
    poll.register(inner, select.POLLIN)
    say("polled", len(poll.poll(1000)), exactly(peer, 3), "then", bits(inner, 0), bits(outer))
    at.meet("two")
    say("outer", bits(outer, 2), "polled", len(poll.poll(1000)))
    at.meet("over")


def nested_late_server(at):
    peer = at.moved()
    at.meet("one")
    peer.sendall(b"one")
    at.meet("two")
    peer.sendall(b"two")
    at.meet("over")


def duplicate_closed_client(at):
    """What was registered under a number that is closed, while another descriptor remains, is still told of."""
    peer = at.moved()
    epoll = select.epoll()
    twin = peer.dup()
    epoll.register(twin, IN)
    epoll.register(peer, IN)
    epoll.unregister(peer)
    twin.close()
    at.meet("one")
    say("told", bits(epoll, 1))
    say("read", exactly(peer, 3), bits(epoll))
    at.meet("end")
    say("end", bits(epoll, 1))
    peer.close()
    say("idle", is_idle(lambda: epoll.poll(1)))


def duplicate_closed_server(at):
    peer = at.moved()
    at.meet("one")
    peer.sendall(b"one")
    at.meet("end")
    peer.close()


def told(epoll):
    """Everything that the set says in a moment, as one."""
    together = 0
    while got := bits(epoll):
        for events in got:
            together |= events
    return together


def end_behind_tcp_client(at):
    """The peer moves and ends its stream while its first bytes still lie in TCP: whoever reads all of it with one call,
    and takes the short answer for a sign that an edge will tell of anything more, is told of the end."""
    for rounds in range(2, 20):
        peer = at.open()
        peer.setblocking(False)
        epoll = select.epoll()
        epoll.register(peer, IN | RDHUP | ET)
        for _ in range(rounds):
            peer.send(b"request")
            at.meet("asked")
            at.meet("answered")
        at.meet("ended")
        events = told(epoll)
        data = peer.recv(1 << 16)
        events |= told(epoll)
        say(rounds, data.count(b"answer") == rounds, "told of the end:", bool(events & RDHUP), peer.recv(1))
        peer.close()


def end_behind_tcp_server(at):
    for rounds in range(2, 20):
        peer = at.open()
        for _ in range(rounds):
            at.meet("asked")
            exactly(peer, 7)
            peer.sendall(b"answer")
            at.meet("answered")
        peer.shutdown(socket.SHUT_WR)
        at.meet("ended")
        peer.recv(1)
        peer.close()
