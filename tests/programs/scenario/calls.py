"""Calls and flags with exact results, after the change-over and, where it matters, across it."""

import array
import ctypes
import fcntl
import os
import select
import socket
import struct
import termios
import time

from ends import attempt, cpu_time, exactly, fill, say, stream, until_end

PEEK, WAITALL, TRUNC, DONTWAIT = socket.MSG_PEEK, socket.MSG_WAITALL, socket.MSG_TRUNC, socket.MSG_DONTWAIT
MORE = 0x8000
LIBC = ctypes.CDLL(None, use_errno=True)


def settle():
    time.sleep(0.1)


def count(peer, request):
    answer = array.array("i", [0])
    fcntl.ioctl(peer, request, answer)
    return answer[0]


def steps(name, *plan, ready=None):
    """A scenario in steps: the server does `plan[i][0]`, then the client `plan[i][1]`, and states what it answers."""

    def client(at):
        peer = ready(at) if ready else at.moved()
        for turn, (_, look) in enumerate(plan):
            at.meet("act")
            at.meet("acted")
            settle()
            say(turn, look(peer))
        at.meet("over")

    def server(at):
        peer = ready(at) if ready else at.moved()
        for act, _ in plan:
            at.meet("act")
            act(peer)
            at.meet("acted")
        at.meet("over")

    globals()[f"{name}_client"], globals()[f"{name}_server"] = client, server


def sends(data):
    return lambda peer: peer.sendall(data)


def nothing(peer):
    pass


def recv(size, flags=0):
    return lambda peer: attempt(peer.recv, size, flags)


def timed(call):
    """The answer and whether it took about a third of a second."""

    def run(peer):
        start = time.monotonic()
        answer = call(peer)
        return answer, 0.25 < time.monotonic() - start < 1.0

    return run


def recv_timeout(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 300_000))
    return attempt(peer.recv, 10)


def recv_all_timeout(peer):
    return attempt(peer.recv, 10, WAITALL)


def send_timeout(peer):
    fill(peer)
    peer.setblocking(True)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 300_000))
    return attempt(peer.send, b"x" * (1 << 20))


def trunc(size, flags=0):
    """MSG_TRUNC on a stream throws bytes away and counts them."""

    def run(peer):
        buffer = ctypes.create_string_buffer(b"-" * size, size)
        answer = LIBC.recv(peer.fileno(), buffer, size, TRUNC | flags)
        return answer, buffer.raw

    return run


def readable(peer):
    return count(peer, termios.FIONREAD)


steps(
    "peek",
    (sends(b"0123456789"), recv(4, PEEK)),
    (nothing, recv(100, PEEK)),
    (nothing, recv(4)),
    (nothing, recv(6, PEEK | WAITALL)),
    (nothing, recv(100, PEEK | DONTWAIT)),
    (nothing, recv(100)),
    (nothing, recv(100, PEEK | DONTWAIT)),
    (half_close := lambda peer: peer.shutdown(socket.SHUT_WR), recv(100, PEEK)),
    (nothing, recv(100)),
)
steps(
    "waitall",
    (sends(b"0123456789"), recv(10, WAITALL)),
    (sends(b"0123"), recv(10, WAITALL | DONTWAIT)),
    (sends(b"45"), recv(2, WAITALL)),
    (lambda peer: (peer.sendall(b"end"), peer.shutdown(socket.SHUT_WR)), recv(10, WAITALL)),
    (nothing, recv(10, WAITALL)),
)
steps(
    "trunc",
    (sends(b"0123456789"), trunc(4)),
    (nothing, recv(100)),
    (sends(b"abcdef"), trunc(3, PEEK)),
    (nothing, trunc(100, DONTWAIT)),
    (nothing, recv(1, DONTWAIT)),
)
steps(
    "dontwait",
    (nothing, recv(10, DONTWAIT)),
    (sends(b"0123"), recv(10, DONTWAIT)),
    (nothing, recv(10, DONTWAIT)),
    (nothing, recv(0)),
    (sends(b"x"), recv(0)),
    (nothing, recv(1)),
)
steps(
    "timeouts",
    (nothing, timed(recv_timeout)),
    (sends(b"abc"), timed(recv_all_timeout)),
    (nothing, timed(send_timeout)),
)
steps(
    "counts",
    (nothing, readable),
    (sends(b"0123456789"), readable),
    (nothing, recv(3)),
    (nothing, readable),
    (sends(b"ab"), readable),
    (half_close, readable),
    (nothing, lambda peer: count(peer, termios.TIOCOUTQ)),
)
steps(
    "low_water",
    (nothing, lambda peer: peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 5)),
    (sends(b"0123"), lambda peer: select.select([peer], [], [], 0.05)[0] == []),
    (sends(b"4"), lambda peer: select.select([peer], [], [], 0.5)[0] == [peer]),
    (nothing, recv(10)),
)


def unread_by_peer_client(at):
    """SIOCOUTQ falls to 0 once the peer took all; before, TCP may have passed everything on already."""
    peer = at.moved()
    peer.sendall(b"0123456789")
    say("at most", count(peer, termios.TIOCOUTQ) <= 10)
    at.meet("take")
    at.meet("taken")
    settle()
    say("taken", count(peer, termios.TIOCOUTQ))


def unread_by_peer_server(at):
    peer = at.moved()
    at.meet("take")
    say(exactly(peer, 10))
    at.meet("taken")


def counts_across_client(at):
    """FIONREAD is the only call that the receiver makes while the connection moves under it."""
    for turn in range(12):
        peer = at.open()
        at.warm(peer, turn)
        for part in range(3):
            peer.sendall(b"x" * 50)
        say(turn, exactly(peer, 2))


def counts_across_server(at):
    for turn in range(12):
        peer = at.open()
        at.warm(peer, turn)
        while readable(peer) < 150:
            settle_a_little()
        say(turn, readable(peer), len(exactly(peer, 150)))
        peer.sendall(b"ok")


def peek_across_client(at):
    """What was peeked at over TCP is read afterwards, however far the change-over has come meanwhile."""
    for turn in range(12):
        peer = at.open()
        at.warm(peer, turn)
        heard = b""
        for step in range(8):
            at.meet("act")
            at.meet("acted")
            settle_a_little()
            seen = peer.recv(100, PEEK)
            assert peer.recv(100, PEEK)[: len(seen)] == seen
            taken = peer.recv(len(seen) // 2 + 1)
            assert taken == seen[: len(taken)], (seen, taken)
            heard += taken
            peer.sendall(b"go on")
        peer.shutdown(socket.SHUT_WR)
        say(turn, heard + until_end(peer))


def settle_a_little():
    time.sleep(0.005)


def peek_across_server(at):
    for turn in range(12):
        peer = at.open()
        at.warm(peer, turn)
        for step in range(8):
            at.meet("act")
            peer.sendall(b"message %02d;" % step)
            at.meet("acted")
            exactly(peer, 5)
        say(turn, until_end(peer))
        peer.close()


def corked_client(at):
    """Data held back by TCP_CORK or MSG_MORE comes, at the latest after 200 ms, without another send."""
    peer = at.open()
    for turn in range(10):
        peer.send(b"part", MORE)
        at.meet("sent")
        assert exactly(peer, 2) == b"ok"
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        peer.send(b"cork")
        at.meet("sent")
        assert exactly(peer, 2) == b"ok"
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


def corked_server(at):
    peer = at.open()
    late = 0
    for turn in range(20):
        at.meet("sent")
        start = time.monotonic()
        exactly(peer, 4)
        late += time.monotonic() - start > 0.4
        peer.sendall(b"ok")
    say("held up", late)


def short_writes_client(at):
    """Non-blocking sends of more than fits answer what fitted; a blocking one the whole."""
    peer = at.moved()
    peer.setblocking(False)
    data = stream(4, 0, 64 << 20)
    sent = peer.send(data)
    say("short", 0 < sent < len(data))
    sent += fill_from(peer, data, sent)
    say("full", attempt(peer.send, b"x"))
    peer.setblocking(True)
    at.meet("read")
    at.side.sendall(b"%020d" % (32 << 20))
    say("rest", peer.send(data[sent : 32 << 20]) == (32 << 20) - sent)


def fill_from(peer, data, start):
    sent = start
    for _ in range(50):
        try:
            sent += peer.send(data[sent : sent + 100_000])
        except BlockingIOError:
            time.sleep(0.01)
    return sent - start


def short_writes_server(at):
    peer = at.moved()
    at.meet("read")
    total, done = int(at.side.recv(20, WAITALL)), 0
    while done < total:
        part = peer.recv(1 << 18)
        assert part and part == stream(4, done, done + len(part)), done
        done += len(part)
    say("verified", done)


def large_low_water_client(at):
    """A low-water mark beyond what the sender can put anywhere at once, and one that the listener had."""
    peer = at.moved()
    at.meet("send")
    peer.settimeout(5)
    peer.sendall(bytes(1_000_000))
    at.meet("sent")
    at.meet("marked")
    inherited = at.open()
    for turn in range(20):
        inherited.sendall(b"%064d" % turn)
        exactly(inherited, 2)
    at.meet("few")
    inherited.sendall(b"0123456789")
    at.meet("more")
    inherited.sendall(bytes(100))
    at.meet("over")


def large_low_water_server(at):
    peer = at.moved()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 400_000)
    at.meet("send")
    say("readable", select.select([peer], [], [], 5)[0] == [peer], len(exactly(peer, 1_000_000)))
    at.meet("sent")
    at.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 64)
    at.meet("marked")
    inherited = at.open()
    for turn in range(20):
        select.select([inherited], [], [])
        say(len(inherited.recv(64, DONTWAIT)))
        inherited.sendall(b"ok")
    at.meet("few")
    say("few", select.select([inherited], [], [], 0.2)[0] == [])
    at.meet("more")
    say("more", select.select([inherited], [], [], 5)[0] == [inherited])
    at.meet("over")


def exceptional_only_client(at):
    """select for exceptional conditions alone: a pipe without writers is none."""
    peer = at.moved()
    out, into = os.pipe()
    os.close(into)
    start = time.monotonic()
    say(select.select([], [], [peer, out], 0.3), time.monotonic() - start > 0.25)


def exceptional_only_server(at):
    at.moved().recv(1)


def waitall_on_tcp_client(at):
    """Messages that trickle in while one call waits for all of them, and the handshake is given up meanwhile."""
    peer = at.open()
    for turn in range(120):
        peer.sendall(b"%016d" % turn)
        time.sleep(0.008)
    peer.recv(1)


def waitall_on_tcp_server(at):
    peer = at.open()
    before = cpu_time()
    say(len(peer.recv(16 * 120, WAITALL)), "idle", cpu_time() - before < 0.2)
