"""Processes that share a connection, and descriptors that do."""

import os
import select
import socket
import threading
import time

from ends import attempt, exactly, say, stream, until_end


def reap(child):
    say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def in_child(work):
    """Runs `work` in a forked child, which then exits without any closing of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def quiet(peer):
    """Whether nothing, and no end, comes for a while."""
    return not select.select([peer], [], [], 0.2)[0]


def accept_then_fork_server(at):
    """The classic server: the child serves, the parent closes and accepts the next one."""
    for _ in range(3):
        peer = at.open()
        child = in_child(lambda: (at.warm(peer, 30), say("child then", until_end(peer))))
        peer.close()
        reap(child)


def accept_then_fork_client(at):
    for _ in range(3):
        peer = at.open()
        at.warm(peer, 30)
        peer.shutdown(socket.SHUT_WR)
        say("end", peer.recv(1))


def shared_before_server(at):
    """Both processes hold it from before the change-over: it stays where it is, and both may use it."""
    peer = at.open()
    child = in_child(lambda: (at.warm(peer, 10), peer.sendall(b"child")))
    reap(child)
    at.warm(peer, 20)
    peer.sendall(b"parent")


def shared_before_client(at):
    peer = at.open()
    at.warm(peer, 10)
    say(exactly(peer, 5))
    at.warm(peer, 20)
    say(exactly(peer, 6), "end", peer.recv(1))


def shared_after_server(at):
    """It moved, then the process forks: both write and read in turn; the end comes when both have closed."""
    peer = at.moved()
    child = in_child(lambda: (at.warm(peer, 10), peer.sendall(b"child")))
    reap(child)
    at.warm(peer, 10)
    peer.sendall(b"parent")
    at.meet("parent has it")
    peer.close()
    at.meet("closed")


def shared_after_client(at):
    peer = at.moved()
    at.warm(peer, 10)
    say(exactly(peer, 5), "quiet", quiet(peer))
    at.warm(peer, 10)
    say(exactly(peer, 6), "quiet", quiet(peer))
    at.meet("parent has it")
    at.meet("closed")
    say("end", peer.recv(1))


def handshake_meets_fork(at):
    """Children come and go while the handshake is under way and the stream flows: an offer is withdrawn at the moment at
    which the other end may confirm it."""
    for turn in range(40):
        peer = at.open()
        at.warm(peer, turn % 4)
        sender = threading.Thread(target=peer.sendall, args=(stream(turn, 0, 1 << 18),))
        sender.start()
        done = 0
        while done < 1 << 18:
            part = peer.recv(min(3000, (1 << 18) - done))
            assert part == stream(turn, done, done + len(part)), (turn, done)
            done += len(part)
            # Which end forks alternates, so that both withdraw and put off.
            if done < 40_000 and (turn % 2 == 0) == (at.role == "server"):
                os.waitpid(in_child(lambda: None), 0)
        sender.join()
        at.warm(peer, 10)
        at.meet()
        peer.close()
    say("verified 40 streams")


handshake_meets_fork_client = handshake_meets_fork_server = handshake_meets_fork


def parent_closes_server(at):
    """The parent closes first; the child goes on, and its exit is the end."""
    peer = at.moved()

    def work():
        at.meet("parent closed")
        at.warm(peer, 10)
        at.meet("child goes")

    child = in_child(work)
    peer.close()
    reap(child)


def parent_closes_client(at):
    peer = at.moved()
    at.meet("parent closed")
    say("quiet", quiet(peer))
    at.warm(peer, 10)
    at.meet("child goes")
    say("end", peer.recv(1))


def child_sleeps_server(at):
    """A child that waits in recv from before its parent's sends, each with a bell of its own."""
    peer = at.moved()

    def work():
        for turn in range(20):
            say("child heard", exactly(peer, 6))
            peer.sendall(b"thanks")

    child = in_child(work)
    for turn in range(20):
        time.sleep(0.01)
        at.meet("parent")
        peer.sendall(b"parent")
        at.meet("child")
    reap(child)


def child_sleeps_client(at):
    peer = at.moved()
    for turn in range(20):
        at.meet("parent")
        assert exactly(peer, 6) == b"parent"
        at.meet("child")
        peer.sendall(b"%06d" % turn)
        assert exactly(peer, 6) == b"thanks"
    say("end", peer.recv(1))


def exits_without_closing_server(at):
    """_exit is an end too, with a sibling left or not."""
    peer = at.moved()
    child = in_child(lambda: peer.sendall(b"last words"))
    reap(child)
    at.meet("child gone")
    at.meet("still here")
    os._exit(0)


def exits_without_closing_client(at):
    peer = at.moved()
    say(exactly(peer, 10))
    at.meet("child gone")
    say("quiet", quiet(peer))
    at.meet("still here")
    say("end", peer.recv(1))


def duplicates_server(at):
    """dup, dup2 over it, and close of one: the connection lives on in the others."""
    peer = at.open()
    twin = peer.dup()
    peer.close()
    at.warm(twin)
    third = twin.dup()
    fourth = socket.socket()
    os.dup2(twin.fileno(), fourth.fileno())
    twin.close()
    at.warm(third)
    third.close()
    at.meet("one left")
    fourth.sendall(b"fourth")
    at.meet("quiet")
    os.close(fourth.detach())


def duplicates_client(at):
    peer = at.open()
    at.warm(peer)
    at.warm(peer)
    at.meet("one left")
    say(exactly(peer, 6), "quiet", quiet(peer))
    at.meet("quiet")
    say("end", peer.recv(1), attempt(peer.send, b""))
