"""What exec and posix_spawn do with a connection that has moved, when the next program cannot be preloaded: both ends are
in this process. Each line is a fact; the connections go on afterwards."""

import os
import socket
import time

from both_ends import attempt, exchange, listen, rest_is_over

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


def at_rest(client, *works):
    """The peer is in no call on the connection meanwhile."""
    client.sendall(b"rest")
    client.recv(4)
    start = time.monotonic()
    for work in works:
        work()
    print("soon" if time.monotonic() - start < 5 else "late", flush=True)
    rest_is_over.set()
    print(exchange(client), flush=True)


listener = listen()
moved = socket.create_connection(listener.getsockname())
exchange(moved)
at_rest(moved, lambda: in_child(lambda: as_input(moved)), lambda: print(attempt(lambda: spawned(moved)), flush=True))
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
