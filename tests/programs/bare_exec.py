"""What exec and posix_spawn do with a connection that has moved, when the next program cannot be preloaded: both ends are
in this process. Each line is a fact; the connections go on afterwards."""

import errno
import os
import socket
import threading

BARE = {"PATH": os.environ["PATH"]}


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
    return os.execve("/bin/true", ["true"], BARE)


def beside(client):
    os.set_inheritable(client.fileno(), True)
    return os.execve("/bin/echo", ["echo", "ran"], BARE)


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, daemon=True).start()
moved = socket.create_connection(listener.getsockname())
exchange(moved)
in_child(lambda: as_input(moved))
print(exchange(moved))
in_child(lambda: beside(moved))
print(exchange(moved))
actions = [(os.POSIX_SPAWN_DUP2, moved.fileno(), 0)]
print(attempt(lambda: os.posix_spawn("/bin/true", ["true"], BARE, file_actions=actions)))
print(exchange(moved))
fresh = socket.create_connection(listener.getsockname())
in_child(lambda: beside(fresh))
print(exchange(fresh))
