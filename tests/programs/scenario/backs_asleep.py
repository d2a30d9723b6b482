"""Who waits for a connection that changes back to TCP, since the program at the other end is replaced by one without the
library: asleep in poll, select and epoll, or beside siblings."""

import os
import select
import sys
import threading
import time

from ends import exactly, fill, say, stream, until_end
from successors import BARE, BULK, begin, ended, in_child, replace, serve


def await_end(peer, turn):
    """Reads in turns, `turn` says when; answers everything."""
    data = bytearray()
    peer.setblocking(False)
    while True:
        turn()
        try:
            while part := peer.recv(70_000):
                data += part
            return bytes(data)
        except BlockingIOError:
            pass


def watched(at, ways):
    """The server's program is replaced under a peer that waits in one of several ways."""
    for way in range(ways):
        peer = at.moved()
        peer.sendall(stream(4, 0, BULK) if way % 2 else b"")
        at.meet("goes to sleep")
        time.sleep(0.05)
        child = in_child(watched_next, peer)
        ended(child)


def watched_next(peer):
    time.sleep(0.1)
    peer.sendall(stream(4, BULK, 2 * BULK))
    time.sleep(0.05)
    say(exactly(peer, 4))
    peer.sendall(b"last")


def sleeps_in(at, *kinds):
    for kind in kinds:
        for way in range(2):
            peer = at.moved()
            expected = stream(4, 0 if way else BULK, 2 * BULK) + b"last"
            say(kind, way, expected == kind_of_sleep(kind, peer, at))
            peer.close()


def kind_of_sleep(kind, peer, at):
    answers = iter([False] * 2 + [True])

    def answer():
        # Not at once, so that the others sleep before.
        if next(answers, False):
            peer.send(b"pong")

    if kind == "poll":
        poll = select.poll()
        poll.register(peer, select.POLLIN | select.POLLRDHUP)
        wait = lambda: poll.poll(300)
    elif kind == "select":
        wait = lambda: select.select([peer], [], [], 0.3)
    else:
        epoll = select.epoll()
        how = {"epoll": 0, "edge": select.EPOLLET, "exclusive": select.EPOLLEXCLUSIVE}[kind]
        out = select.EPOLLOUT if kind == "edge" else 0
        epoll.register(peer, select.EPOLLIN | out | how)
        wait = lambda: epoll.poll(0.3)
    at.meet("goes to sleep")

    def turn():
        wait()
        answer()

    return await_end(peer, turn)


def poll_server(at):
    watched(at, 4)


def poll_client(at):
    sleeps_in(at, "poll", "select")


def epoll_server(at):
    watched(at, 6)


def epoll_client(at):
    sleeps_in(at, "epoll", "edge", "exclusive")


def edges_server(at):
    """Edges that come through TCP again, after the ring's were seen; and of room, after a full ring."""
    for _ in range(2):
        peer = at.moved()
        at.meet("goes to sleep")
        time.sleep(0.05)
        child = in_child(edges_next, peer)
        at.meet("was replaced")
        ended(child)


def edges_next(peer):
    time.sleep(0.3)
    peer.sendall(b"first")
    time.sleep(0.3)
    peer.sendall(b"second")
    say(len(until_end(peer)) > 0)


def edges_client(at):
    for is_full in (False, True):
        peer = at.moved()
        sent = fill(peer) if is_full else 0
        peer.setblocking(False)
        epoll = select.epoll()
        epoll.register(peer, select.EPOLLIN | select.EPOLLET | (select.EPOLLOUT if is_full else 0))
        seen = epoll.poll(0.05)
        at.meet("goes to sleep")
        got, room = b"", not is_full
        while got != b"firstsecond" or not room:
            for _, bits in epoll.poll(5) or [(0, 0)]:
                assert bits, "nothing is told"
                if bits & select.EPOLLIN:
                    got += peer.recv(100)
                room = room or bool(bits & select.EPOLLOUT)
        say("read", got, room)
        at.meet("was replaced")
        peer.setblocking(True)
        peer.sendall(b"end")
        peer.close()


def shared_server(at):
    """The program is replaced in a child, whose parent goes on with the connection, too, and waits for it in a set."""
    peer = at.moved()
    epoll = select.epoll()
    epoll.register(peer, select.EPOLLIN | select.EPOLLET)
    say(epoll.poll(0.01))
    child = os.fork()
    if child == 0:
        os.dup2(peer.fileno(), 0)
        os.dup2(peer.fileno(), 1)
        script = "import os; os.write(1, b'child ' + os.read(0, 4))"
        os.execve(sys.executable, [sys.executable, "-c", script], BARE)
    ended(child)
    at.meet("the child is gone")
    while not (told := epoll.poll(5)):
        pass
    say(len(told), exactly(peer, 5))
    at.warm(peer)
    peer.close()


def shared_client(at):
    peer = at.moved()
    peer.sendall(b"word")
    say(exactly(peer, 10))
    at.meet("the child is gone")
    peer.sendall(b"hello")
    at.warm(peer)
    say("end", peer.recv(1))


def siblings_server(at):
    replace(siblings_next, at.moved())


def siblings_next(peer):
    serve(peer)
    say(exactly(peer, 20) == b"x" * 20)
    peer.sendall(b"bye")
    print("finished", flush=True)


def siblings_client(at):
    """Two processes and a thread have the peer's end: each hears of it."""
    peer = at.moved()
    turn, mine = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(turn, 1)
        peer.sendall(b"x" * 10)
        os._exit(0)
    ends = select.epoll()
    ends.register(peer, select.EPOLLRDHUP)
    told = []
    thread = threading.Thread(target=lambda: told.extend(ends.poll(10)))
    thread.start()
    time.sleep(0.2)
    at.warm(peer)
    os.write(mine, b"!")
    os.waitpid(child, 0)
    peer.sendall(b"x" * 10)
    say(until_end(peer))
    thread.join()
    say(len(told))


if __name__ == "__main__":
    begin(globals())
