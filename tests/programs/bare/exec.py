"""What exec and posix_spawn do with a connection that has moved, when the next program cannot be preloaded: both ends are
in this process, but for one. Each line is a fact; the connections go on afterwards."""

import os
import signal
import socket
import time

from both_ends import attempt, elsewhere, exchange, listen, stop

BARE = {"PATH": os.environ["PATH"]}


def in_child(work):
    child = os.fork()
    if child == 0:
        print(attempt(work), flush=True)
        os._exit(0)
    os.waitpid(child, 0)


def as_input(client):
    os.dup2(client.fileno(), 0)
    return os.execve("/bin/echo", ["echo", "ran"], BARE)


def beside(client):
    os.set_inheritable(client.fileno(), True)
    return os.execve("/bin/echo", ["echo", "ran"], BARE)


def spawned(client):
    actions = [(os.POSIX_SPAWN_DUP2, client.fileno(), 0)]
    return os.waitpid(os.posix_spawn("/bin/true", ["true"], BARE, file_actions=actions), 0)[1]


def at_rest(client, peer, *works):
    """The peer is in no call on the connection meanwhile."""
    stop(peer)
    start = time.monotonic()
    for work in works:
        work()
    print("soon" if time.monotonic() - start < 5 else "late", flush=True)
    os.kill(peer, signal.SIGCONT)
    print(exchange(client), flush=True)


away, peer = elsewhere()
at_rest(away, peer, lambda: in_child(lambda: as_input(away)), lambda: print(attempt(lambda: spawned(away)), flush=True))
listener = listen()
moved = socket.create_connection(listener.getsockname())
exchange(moved)
in_child(lambda: beside(moved))
print(exchange(moved), flush=True)
fresh = socket.create_connection(listener.getsockname())
in_child(lambda: beside(fresh))
print(exchange(fresh), flush=True)
print("moved until here", flush=True)
os.write(2, b"moved until here\n")
in_child(lambda: as_input(moved))
print(exchange(moved), flush=True)
print(attempt(lambda: spawned(fresh)), flush=True)
print(exchange(fresh), flush=True)
