"""What becomes of a connection that has moved and is passed to a program that is not preloaded, or with another library.
Each line is a fact."""

import os
import shutil
import signal
import socket
import subprocess
import sys

from both_ends import attempt, elsewhere, ended, exchange, listen, stop

BARE = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}


def start(environment, *words, **how):
    return subprocess.Popen([sys.executable, __file__, *words], env=environment, stdout=subprocess.PIPE, text=True, **how)


def receive(via):
    """The program that is not preloaded."""
    _, fds, _, _ = socket.recv_fds(via, 1, 1)
    if fds:
        peer = socket.socket(fileno=fds[0])
        print("reads", attempt(lambda: peer.recv(100)), "sends", attempt(lambda: peer.send(b"x")), flush=True)
        via.send(b"x")
        via.recv(1)


def hears():
    via = socket.socket(socket.AF_UNIX)
    via.bind(f"hears-{os.getpid()}")
    via.listen()
    print("hears", flush=True)
    receive(via.accept()[0])


def inherits(fd):
    receive(socket.socket(fileno=int(fd)))


def to_a_listener(environment):
    """The kernel says who listens: the connection changes back to TCP, if its peer does that."""
    receiver = start(environment, "hears")
    print(receiver.stdout.readline(), end="")
    via = socket.socket(socket.AF_UNIX)
    via.connect(f"hears-{receiver.pid}")
    client, peer = elsewhere()
    stop(peer)
    print(attempt(lambda: socket.send_fds(via, [b"x"], [client.fileno()])))
    os.kill(peer, signal.SIGCONT)
    print(exchange(client))
    # The peer puts what is unread into TCP.
    client.send(b"to be read there")
    client.recv(100, socket.MSG_PEEK)
    print(socket.send_fds(via, [b"x"], [client.fileno()]))
    via.recv(1)
    print(client.recv(100), exchange(client))
    via.send(b"x")
    print(receiver.stdout.read(), end="")
    client.close()
    print("the peer's end", os.waitpid(peer, 0)[1], receiver.wait())


def to_an_heir(environment):
    """The kernel says who made the pair, which is this program: what is sent is of no use there, and does no harm."""
    via, theirs = socket.socketpair()
    client = moved()
    receiver = start(environment, "inherits", str(theirs.fileno()), pass_fds=[theirs.fileno()])
    theirs.close()
    print(attempt(lambda: socket.send_fds(via, [b"x"], [client.fileno()])), exchange(client))
    via.recv(1)
    print(receiver.stdout.readline(), end="")
    print(exchange(client))
    client.close()
    print("the peer's end", ended.acquire(timeout=10))
    via.close()
    print(receiver.wait())


def moved():
    client = socket.create_connection(listener.getsockname())
    exchange(client)
    return client


if len(sys.argv) > 1:
    globals()[sys.argv[1]](*sys.argv[2:])
else:
    listener = listen()
    library = os.environ["LD_PRELOAD"]
    other = dict(os.environ, LD_PRELOAD=shutil.copy(library, os.getcwd()))
    for environment in (BARE, other):
        to_a_listener(environment)
        to_an_heir(environment)
