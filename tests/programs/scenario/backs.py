"""Programs that hand a connection which has moved to one that cannot have the library: it goes on over TCP, and the peer
does not notice. The next program is this one again, without LD_PRELOAD, or a static one."""

import os
import select
import socket
import struct
import sys
import threading
import time

from ends import attempt, exactly, say, stream, until_end
from successors import BARE, BULK, begin, ended, in_child, replace, serve, under_way, under_way_client


def is_about(at, peer):
    """Makes a call on the connection now and then until the other end is at the next step."""
    while not select.select([at.side], [], [], 0.01)[0]:
        attempt(peer.recv, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)


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


def both_ways_server(at):
    """Bytes are unread in both directions when the program is replaced."""
    under_way(at, replace)


both_ways_client = under_way_client


def inetd_server(at):
    """Each connection is served by a program that has it as input and output."""
    hand_over(at.moved(), sys.executable, "-c", ECHO)
    hand_over(at.moved(), "busybox", "cat", environment=os.environ)


def inetd_client(at):
    for _ in range(2):
        echoes(at.moved())


def full_server(at):
    """The peer waits for space in a full ring, of which something was read."""
    peer = at.moved()
    at.meet("it sends")
    say(exactly(peer, 1000) == stream(2, 0, 1000))
    time.sleep(0.1)
    replace(full_next, peer)


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
    for step in (half_closed_next, closed_next, shut_next):
        peer = at.moved()
        if step is shut_next:
            peer.sendall(b"bye")
            peer.shutdown(socket.SHUT_WR)
        at.meet("sent")
        if step is closed_next:
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
        child = in_child(both_replaced_next, peer)
        ended(child)
        at.meet("both are done")


def both_replaced_next(peer):
    peer.sendall(stream(3, 0, 16) + b"end")
    peer.shutdown(socket.SHUT_WR)
    data = until_end(peer)
    size = len(data) - 19
    say("received", size, data == stream(3, 0, size) + stream(3, 0, 16) + b"end")


both_replaced_client = both_replaced_server


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


if __name__ == "__main__":
    begin(globals())
