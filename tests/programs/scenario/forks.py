"""Processes that share a connection, and descriptors that do."""

import ctypes
import os
import select
import signal
import socket
import threading
import time

from ends import attempt, exactly, in_child, reap, say, stream, until_end


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


def killed(child):
    """Kills a child, which has said that it is ready."""
    os.kill(child, signal.SIGKILL)
    say("killed", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def sleeping_child():
    """A child that has what its parent has, and sleeps."""
    ready, tell = os.pipe()
    child = in_child(lambda: (os.write(tell, b"x"), time.sleep(60)))
    os.read(ready, 1)
    return child


def killed_child_server(at):
    """A child that was killed holds nothing: a connection from before then moves, and the last close of one that has moved
    is the end, a reset where bytes are unread."""
    fresh = at.open()
    at.warm(fresh, 1)
    killed(sleeping_child())
    at.warm(fresh, 60)
    child = sleeping_child()
    at.meet("send")
    at.meet("sent")
    killed(child)
    fresh.close()
    at.meet("closed")


def killed_child_client(at):
    fresh = at.open()
    at.warm(fresh, 1)
    at.warm(fresh, 60)
    at.meet("send")
    fresh.sendall(b"never read")
    at.meet("sent")
    at.meet("closed")
    say("end", attempt(fresh.recv, 1))


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


def terminal_server(at):
    """forkpty forks inside the C library."""
    peer = at.moved()
    child, _ = os.forkpty()
    if child == 0:
        os._exit(7)
    reap(child)
    at.warm(peer)


def terminal_client(at):
    at.warm(at.moved())


def exit_in_handler_server(at):
    """A signal handler that exits, whatever its thread was doing."""
    libc = ctypes.CDLL(None)
    leave_at_once = ctypes.cast(libc._exit, ctypes.c_void_p)
    for turn in range(40):
        peer = at.moved()
        child = os.fork()
        if child == 0:
            epoll = select.epoll()
            epoll.register(peer, select.EPOLLIN | select.EPOLLOUT)
            libc.signal(signal.SIGALRM, leave_at_once)
            signal.setitimer(signal.ITIMER_REAL, 0.001 + turn * 0.000_1)
            events = ctypes.create_string_buffer(64)
            while True:
                libc.epoll_wait(epoll.fileno(), events, 4, 0)
                libc.recv(peer.fileno(), events, 64, socket.MSG_DONTWAIT)
        peer.close()
        reap(child)
        at.meet("gone")


def exit_in_handler_client(at):
    for turn in range(40):
        peer = at.moved()
        at.meet("gone")
        say("end", peer.recv(1))


def child_of_a_sleeper_server(at):
    """A child closes a connection in which a thread of its parent sleeps: it has nothing more to do with it."""
    peer = at.moved()
    heard = []
    reader = threading.Thread(target=lambda: heard.append(peer.recv(10)))
    reader.start()
    time.sleep(0.1)
    ready, done = os.pipe()

    def work():
        os.close(peer.fileno())
        os.close(done)
        os.read(ready, 1)

    child = in_child(work)
    at.meet("forked")
    reader.join()
    say("heard", heard)
    peer.close()
    at.meet("closed")
    os.close(done)
    reap(child)


def child_of_a_sleeper_client(at):
    peer = at.moved()
    at.meet("forked")
    peer.sendall(b"hello")
    at.meet("closed")
    say("end", peer.recv(1))


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
