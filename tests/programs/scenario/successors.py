"""Programs that hand a connection to the next one, and what that does first: what several subjects have in common."""

import os
import socket
import sys

from ends import End, exactly, say, stream

BARE = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
BULK = 100_000


def words_of(step, *numbers):
    """The next program, which begins at a function of some subject with these descriptors."""
    return [sys.executable, step.__code__.co_filename, step.__name__, *map(str, numbers)]


def begin(subject):
    """It begins there: `subject` has the functions by name."""
    subject[sys.argv[1]](*(socket.socket(fileno=int(fd)) for fd in sys.argv[2:]))


def inherited(sockets):
    numbers = [peer.fileno() for peer in sockets]
    for number in numbers:
        os.set_inheritable(number, True)
    return numbers


def go_on(step, *sockets):
    """Becomes another program, which goes on at `step` with these sockets."""
    os.execv(sys.executable, words_of(step, *inherited(sockets)))


def replace(step, peer):
    """Becomes a program without the library."""
    os.execve(sys.executable, words_of(step, *inherited([peer])), BARE)


def in_child(step, peer):
    """A child becomes one, with the connection as its input; this process closes it."""
    child = os.fork()
    if child == 0:
        os.dup2(peer.fileno(), 0)
        os.execve(sys.executable, words_of(step, 0), BARE)
    peer.close()
    return child


def ended(child):
    say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def serve(peer, rounds=12):
    """What `End.warm` does in a server."""
    at = End.__new__(End)
    at.role = "server"
    at.warm(peer, rounds)


def under_way(at, become):
    """Both directions have bytes on their way when the program is replaced."""
    peer = at.moved()
    peer.sendall(stream(1, 0, BULK))
    at.meet("both have sent")
    become(under_way_next, peer)


def under_way_next(peer):
    peer.sendall(stream(1, BULK, 2 * BULK))
    say("received", exactly(peer, BULK) == stream(2, 0, BULK))
    serve(peer)
    say("end", peer.recv(1))
    print("finished", flush=True)


def under_way_client(at):
    peer = at.moved()
    peer.sendall(stream(2, 0, BULK))
    at.meet("both have sent")
    say("received", exactly(peer, 2 * BULK) == stream(1, 0, 2 * BULK))
    at.warm(peer)
    peer.close()


if __name__ == "__main__":
    begin(globals())
