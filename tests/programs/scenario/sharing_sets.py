"""epoll sets that threads, or forked processes, share."""

import ctypes
import os
import select
import threading
import time

from ends import exactly, in_child, reap, say

IN, OUT, ET = select.EPOLLIN, select.EPOLLOUT, select.EPOLLET


def threads_in_one_set(at):
    """Several threads in one set, edge-triggered, each busy for a while with what it was told: no edge is lost, be it that
    a thread comes back from its sleep late."""
    rounds = 60
    if at.role == "client":
        for open_one in (at.open, at.moved):
            peer = open_one()
            for turn in range(rounds):
                peer.sendall(b"%04d" % turn)
                assert exactly(peer, 4) == b"%04d" % turn
            at.meet("over")
        say("answered", 2 * rounds)
        return
    for open_one in (at.open, at.moved):
        peer, epoll, told = open_one(), select.epoll(), []
        peer.setblocking(False)
        wake, sleep = os.pipe()
        epoll.register(peer, IN | ET)
        epoll.register(wake, IN)

        def work():
            while True:
                for fd, _ in epoll.poll():
                    if fd == wake:
                        return
                    told.append(fd)
                    try:
                        peer.send(peer.recv(100))
                    except BlockingIOError:
                        # One message may be told of twice.
                        pass
                    # The next edge finds another thread, whose call began later.
                    time.sleep(0.002)

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        at.meet("over")
        os.write(sleep, b"x")
        for worker in workers:
            worker.join()
        say("told", len(told) >= rounds)


threads_in_one_set_client = threads_in_one_set_server = threads_in_one_set


def first_one_client(at):
    """The first connection of a set comes ready into it while a thread waits there: it is told in the program's words."""
    peer = at.moved()
    for turn in range(100):
        epoll = select.epoll()
        epoll.register(os.pipe()[0], IN)
        heard = []
        sleeper = threading.Thread(target=lambda: heard.append(epoll.poll(5)))
        sleeper.start()
        epoll.register(peer, OUT)
        sleeper.join()
        assert heard == [[(peer.fileno(), OUT)]], heard
    say("heard", 100)
    at.meet("over")


def first_one_server(at):
    at.moved()
    at.meet("over")


def leave(at, peer, epoll, how):
    """What a child may do to what it inherited."""
    if how == "closes the connection":
        os.close(peer.fileno())
    elif how == "closes the set":
        epoll.close()
    elif how == "closes everything":
        os.closerange(3, 200)
    elif how == "execs":
        os.execv("/bin/true", ["true"])
    elif how == "execs a list":
        words = [b"%d" % number for number in range(12)]
        ctypes.CDLL(None).execlp(b"test", b"test", *words[:1], b"-lt", words[11], None)
    elif how == "execs with an environment":
        script = b'test "$1$2$3$4$5$6$7$8$9" = abcdefghi -a "$name" = value'
        environment = (ctypes.c_char_p * 2)(b"name=value", None)
        words = [b"sh", b"-c", script, b"sh", *[b"%c" % letter for letter in b"abcdefghi"]]
        ctypes.CDLL(None).execle(b"/bin/sh", *words, None, environment)


HOW = ["exits", "closes the connection", "closes the set", "closes everything", "execs", "execs a list"]
HOW += ["execs with an environment"]


def set_of_the_parent_server(at):
    """The parent's set goes on, whatever a child does to its copies."""
    for open_one in (at.open, at.moved):
        peer = open_one()
        epoll = select.epoll()
        epoll.register(peer, select.EPOLLIN)
        for how in HOW:
            reap(in_child(lambda: leave(at, peer, epoll, how)))
            for turn in range(4):
                at.meet("go")
                say(how, [events for _, events in epoll.poll(3)])
                peer.sendall(peer.recv(100))


def set_of_the_parent_client(at):
    for open_one in (at.open, at.moved):
        peer = open_one()
        for how in HOW:
            for turn in range(4):
                at.meet("go")
                peer.sendall(b"ping")
                say(how, exactly(peer, 4))


def set_with_two_descriptors_server(at):
    peer = at.moved()
    epoll = select.epoll()
    epoll.register(peer, select.EPOLLIN)
    twin = os.dup(epoll.fileno())
    reap(in_child(lambda: None))
    at.meet("go")
    say("told", len(select.epoll.fromfd(twin).poll(3)))
    at.meet("over")


def set_with_two_descriptors_client(at):
    peer = at.moved()
    at.meet("go")
    peer.sendall(b"ping")
    at.meet("over")
