"""Programs that hand a connection which has moved to one that cannot have the library: it goes on over TCP, and the peer
does not notice. The next program is this one again, without LD_PRELOAD, or a static one."""

import os
import select
import socket
import struct
import sys
import threading
import time

from ends import End, attempt, exactly, fill, say, stream, until_end

BARE = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
BULK = 100_000


def replace(step, peer):
    """Becomes a program without the library."""
    os.set_inheritable(peer.fileno(), True)
    os.execve(sys.executable, [sys.executable, __file__, step, str(peer.fileno())], BARE)


def in_child(step, peer):
    """A child becomes one, with the connection as its input; this process closes it."""
    child = os.fork()
    if child == 0:
        os.dup2(peer.fileno(), 0)
        os.execve(sys.executable, [sys.executable, __file__, step, "0"], BARE)
    peer.close()
    return child


def ended(child):
    say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def is_about(at, peer):
    """Makes a call on the connection now and then until the other end is at the next step."""
    while not select.select([at.side], [], [], 0.01)[0]:
        attempt(peer.recv, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)


def serve(peer, rounds=12):
    at = End.__new__(End)
    at.role = "server"
    at.warm(peer, rounds)


def hand_over(peer, program, *arguments, environment=BARE):
    """A child has the connection as input and output, as inetd's have; this process closes it."""
    child = os.fork()
    if child == 0:
        os.dup2(peer.fileno(), 0)
        os.dup2(peer.fileno(), 1)
        os.closerange(3, 200)
        os.execvpe(program, [program, *arguments], environment)
    peer.close()
    ended(child)


ECHO = """
import os
while line := os.read(0, 100000):
    while line:
        line = line[os.write(1, line):]
"""


def echoes(peer, count=30):
    for number in range(count):
        line = b"line %d\n" % number
        peer.sendall(line)
        assert exactly(peer, len(line)) == line
    peer.shutdown(socket.SHUT_WR)
    say("then", until_end(peer))


def inetd_server(at):
    """Each connection is served by a program that has it as input and output."""
    hand_over(at.moved(), sys.executable, "-c", ECHO)
    hand_over(at.moved(), "busybox", "cat", environment=os.environ)


def inetd_client(at):
    for _ in range(2):
        echoes(at.moved())


def both_ways_server(at):
    """Bytes are unread in both directions when the program is replaced."""
    peer = at.moved()
    peer.sendall(stream(1, 0, BULK))
    at.meet("both have sent")
    replace("both_ways_next", peer)


def both_ways_next(peer):
    peer.sendall(stream(1, BULK, 2 * BULK))
    say("received", exactly(peer, BULK) == stream(2, 0, BULK))
    serve(peer)
    say("end", peer.recv(1))
    print("finished", flush=True)


def both_ways_client(at):
    peer = at.moved()
    peer.sendall(stream(2, 0, BULK))
    at.meet("both have sent")
    say("received", exactly(peer, 2 * BULK) == stream(1, 0, 2 * BULK))
    at.warm(peer)
    peer.close()


def full_server(at):
    """The peer waits for space in a full ring, of which something was read."""
    peer = at.moved()
    at.meet("it sends")
    say(exactly(peer, 1000) == stream(2, 0, 1000))
    time.sleep(0.1)
    replace("full_next", peer)


def full_next(peer):
    say("received", exactly(peer, 30 * BULK - 1000) == stream(2, 1000, 30 * BULK))
    peer.sendall(b"all")
    say("end", peer.recv(1))
    print("finished", flush=True)


def full_client(at):
    peer = at.moved()
    at.meet("it sends")
    peer.sendall(stream(2, 0, 30 * BULK))
    say(exactly(peer, 3))
    peer.close()


def half_closed_server(at):
    """The peer has sent its request and an end; or closed; or this end has shut its direction down, and goes on reading."""
    for step in ("half_closed_next", "closed_next", "shut_next"):
        peer = at.moved()
        if step == "shut_next":
            peer.sendall(b"bye")
            peer.shutdown(socket.SHUT_WR)
        at.meet("sent")
        if step == "closed_next":
            say(exactly(peer, 7))
        child = in_child(step, peer)
        ended(child)
        at.meet("done")


def half_closed_next(peer):
    say(until_end(peer))
    peer.sendall(b"answer")


def closed_next(peer):
    say(until_end(peer))


def shut_next(peer):
    say(exactly(peer, 7), exactly(peer, 4))


def half_closed_client(at):
    peer = at.moved()
    peer.sendall(b"request")
    peer.shutdown(socket.SHUT_WR)
    at.meet("sent")
    say(until_end(peer))
    at.meet("done")
    peer = at.moved()
    peer.sendall(b"request")
    peer.close()
    at.meet("sent")
    at.meet("done")
    peer = at.moved()
    peer.sendall(b"request")
    at.meet("sent")
    say(until_end(peer))
    peer.sendall(b"more")
    is_about(at, peer)
    at.meet("done")


def spawned_server(at):
    """posix_spawn, whose parent goes on with the connection beside the child; the second one closes it."""
    peer = at.moved()
    script = "import os; os.write(1, b'spawned ' + os.read(0, 10))"
    actions = [(os.POSIX_SPAWN_DUP2, peer.fileno(), number) for number in (0, 1)]
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", script], BARE, file_actions=actions)
    ended(child)
    at.warm(peer)
    say("end", peer.recv(1))
    peer = at.moved()
    actions = [(os.POSIX_SPAWN_DUP2, peer.fileno(), number) for number in (0, 1)]
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", ECHO], BARE, file_actions=actions)
    peer.close()
    ended(child)


def spawned_client(at):
    peer = at.moved()
    peer.sendall(b"word")
    say(exactly(peer, 12))
    at.warm(peer)
    peer.close()
    echoes(at.moved())


def fails_server(at):
    """The program is not replaced after all: it goes on, as its children do."""
    peer = at.moved()
    os.set_inheritable(peer.fileno(), True)
    for path, argument in (("/no/such", ""), ("/etc/passwd", ""), (sys.executable, "x" * 300_000)):
        say(attempt(os.execve, path, [path, argument], BARE))
        at.warm(peer)
    child = os.fork()
    if child == 0:
        serve(peer)
        os._exit(0)
    os.waitpid(child, 0)
    peer.sendall(b"bye")


def fails_client(at):
    peer = at.moved()
    for _ in range(4):
        at.warm(peer)
    say(until_end(peer))


def both_replaced_server(at):
    """Both ends at the same time, with bytes unread in both directions."""
    for size in (0, 10, 50_000):
        peer = at.moved()
        peer.sendall(stream(3, 0, size))
        at.meet("both have sent")
        child = in_child("both_replaced_next", peer)
        ended(child)
        at.meet("both are done")


def both_replaced_next(peer):
    peer.sendall(stream(3, 0, 16) + b"end")
    peer.shutdown(socket.SHUT_WR)
    data = until_end(peer)
    size = len(data) - 19
    say("received", size, data == stream(3, 0, size) + stream(3, 0, 16) + b"end")


both_replaced_client = both_replaced_server


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
        child = in_child("watched_next", peer)
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
        child = in_child("edges_next", peer)
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


DUPLEX = 40 * BULK


def duplex_server(at):
    """Full flow both ways, by threads of both ends, while the connection is given to a child that leaves it alone."""
    for turn in range(4):
        flows(at, turn, give_away)


def duplex_client(at):
    for turn in range(4):
        flows(at, turn, lambda turn, peer: None)


def give_away(turn, peer):
    time.sleep(turn * 0.01)
    actions = [(os.POSIX_SPAWN_DUP2, peer.fileno(), 0)]
    ended(os.posix_spawn("/bin/true", ["true"], BARE, file_actions=actions))


def flows(at, turn, meanwhile):
    peer = at.moved()
    if turn % 2:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 20, 0))
    sender = threading.Thread(target=peer.sendall, args=(stream(5, 0, DUPLEX),))
    reader = threading.Thread(target=lambda: say("received", exactly(peer, DUPLEX) == stream(5, 0, DUPLEX)))
    sender.start()
    meanwhile(turn, peer)
    reader.start()
    sender.join()
    reader.join()
    at.warm(peer)
    peer.close()


def siblings_server(at):
    replace("siblings_next", at.moved())


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
    globals()[sys.argv[1]](*(socket.socket(fileno=int(fd)) for fd in sys.argv[2:]))
