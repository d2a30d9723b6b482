"""What exec and posix_spawn do with a connection that has moved, when the next program cannot be preloaded: both ends are
in this process. Each line is a fact; the connections go on afterwards."""

import errno
import os
import socket
import threading
import time

BARE = {"PATH": os.environ["PATH"]}
rest_is_over = threading.Event()


def attempt(call):
    try:
        return call()
    except OSError as error:
        return "EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode[error.errno]


def serve():
    while True:
        peer = listener.accept()[0]
        threading.Thread(target=echo, args=(peer,), daemon=True).start()


def echo(peer):
    while data := peer.recv(100):
        peer.sendall(data)
        if data == b"rest":
            rest_is_over.wait()


def exchange(client, rounds=20):
    for turn in range(rounds):
        client.sendall(b"message %04d" % turn)
        assert client.recv(100) == b"message %04d" % turn
    return "goes on"


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


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, daemon=True).start()
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
