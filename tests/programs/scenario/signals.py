"""Signals while a call waits: with SA_RESTART it goes on, without it says EINTR, and a part is never lost.

Python repeats interrupted calls itself, so the C functions are called."""

import ctypes
import errno
import select
import signal
import socket
import time

from ends import fill, say, stream

LIBC = ctypes.CDLL(None, use_errno=True)
for function in ("recv", "send", "read", "write"):
    getattr(LIBC, function).restype = ctypes.c_ssize_t


class Alarm:
    """A handler that counts, restarting or not, and a timer that fires after a while."""

    def __init__(self, restart, after=0.2):
        self.count = 0
        signal.signal(signal.SIGALRM, self.ring)
        signal.siginterrupt(signal.SIGALRM, not restart)
        signal.setitimer(signal.ITIMER_REAL, after)

    def ring(self, number, frame):
        self.count += 1


def c_call(name, *arguments):
    """What the C function answers, or its error."""
    answer = getattr(LIBC, name)(*arguments)
    return answer if answer >= 0 else errno.errorcode[ctypes.get_errno()]


def receiving_client(at):
    peer = at.moved()
    buffer = ctypes.create_string_buffer(100)
    alarm = Alarm(False)
    say("recv", c_call("recv", peer.fileno(), buffer, 100, 0), alarm.count)
    alarm = Alarm(False)
    say("read", c_call("read", peer.fileno(), buffer, 100), alarm.count)
    alarm = Alarm(True)
    at.meet("restart")
    say("recv", c_call("recv", peer.fileno(), buffer, 100, 0), alarm.count, buffer.raw[:5])
    alarm = Alarm(False)
    at.meet("part")
    say("all", c_call("recv", peer.fileno(), buffer, 10, socket.MSG_WAITALL), alarm.count, buffer.raw[:5])


def receiving_server(at):
    peer = at.moved()
    at.meet("restart")
    time.sleep(0.5)
    peer.sendall(b"hello")
    at.meet("part")
    peer.sendall(b"parts")
    exactly_end(peer)


def exactly_end(peer):
    assert peer.recv(1) == b""


def waiting_client(at):
    """poll, select and epoll_wait are interrupted whatever the handler's flags say."""
    peer = at.moved()
    for restart in (False, True):
        poll = (ctypes.c_int * 2)(peer.fileno(), select.POLLIN)
        alarm = Alarm(restart)
        say("poll", c_call("poll", ctypes.byref(poll), 1, 2000), alarm.count)
        bits = (ctypes.c_ulong * 16)()
        bits[peer.fileno() // 64] |= 1 << peer.fileno() % 64
        limit = (ctypes.c_long * 2)(2, 0)
        alarm = Alarm(restart)
        say("select", c_call("select", peer.fileno() + 1, ctypes.byref(bits), None, None, ctypes.byref(limit)))
        epoll = select.epoll()
        epoll.register(peer, select.EPOLLIN)
        alarm = Alarm(restart)
        events = ctypes.create_string_buffer(64)
        say("epoll", c_call("epoll_wait", epoll.fileno(), events, 4, 2000), alarm.count)


def waiting_server(at):
    peer = at.moved()
    exactly_end(peer)


def until_interrupted(peer, sent):
    """Blocking sends until one is interrupted before its first byte; TCP may still take some of the first ones."""
    while True:
        data = stream(0, sent, sent + (1 << 20))
        alarm = Alarm(False)
        answer = c_call("send", peer.fileno(), data, len(data), 0)
        if isinstance(answer, str):
            say("send", answer, alarm.count)
            return sent
        sent += answer


def sending_client(at):
    peer = at.moved()
    sent = fill(peer)
    peer.setblocking(True)
    sent = until_interrupted(peer, sent)
    data = stream(0, sent, sent + (16 << 20))
    # The other side now takes a part, and the signal comes after some of the bytes went.
    at.meet("take")
    at.side.sendall(b"%020d" % (sent + (1 << 20)))
    alarm = Alarm(False, 0.6)
    part = c_call("send", peer.fileno(), data, len(data), 0)
    say("part", isinstance(part, int) and 0 < part < len(data), alarm.count)
    at.meet("sent")
    at.side.sendall(b"%020d" % (sent + part))
    alarm = Alarm(True)
    rest = stream(0, sent + part, sent + part + (4 << 20))
    # It goes on, unless bytes went already: then their number is the answer, with this handler too.
    restarted = c_call("send", peer.fileno(), rest, len(rest), 0)
    say("restarted", isinstance(restarted, int), alarm.count)
    peer.sendall(rest[restarted:])
    peer.shutdown(socket.SHUT_WR)
    exactly_end(peer)


def sending_server(at):
    peer = at.moved()
    done = 0

    def take(upto):
        nonlocal done
        while done < upto:
            part = peer.recv(min(1 << 16, upto - done))
            assert part and part == stream(0, done, done + len(part)), done
            done += len(part)

    at.meet("take")
    # So much can be taken that some of the call's own bytes fit, whatever the buffers hold.
    take(int(at.side.recv(20, socket.MSG_WAITALL)))
    at.meet("sent")
    total = int(at.side.recv(20, socket.MSG_WAITALL)) + (4 << 20)
    time.sleep(0.5)
    take(total)
    say("verified, then", peer.recv(1))
