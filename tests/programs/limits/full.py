"""A process whose descriptors run out while its connections move.

`full.py server PORT`: an echo server with one epoll set. When no more connection can be accepted it says how many it
holds, and goes on to serve those.
`full.py mute PORT`: accepts connections, and neither reads nor writes.
`full.py lines PORT COUNT`: opens connections as long as it can, sends some lines on each, and says how many there are.
`full.py client PORT COUNT`: opens connections until there are COUNT or descriptors run out, each with requests and
replies in which it can move; says how many there are, then goes round all of them again.
"""

import errno
import select
import socket
import sys

ROUNDS = 8


class Server:
    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.peers = {}
        self.full = False

    def accept(self):
        try:
            peer = self.listener.accept()[0]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            self.epoll.unregister(self.listener)
            self.full = True
            print("holds", len(self.peers), flush=True)
            return
        self.peers[peer.fileno()] = peer
        self.epoll.register(peer, select.EPOLLIN)

    def echo(self, fd):
        try:
            data = self.peers[fd].recv(1 << 16)
        except ConnectionError:
            data = b""
        if data:
            self.peers[fd].sendall(data)
            return
        self.epoll.unregister(fd)
        self.peers.pop(fd).close()
        if self.full:
            self.full = False
            self.epoll.register(self.listener, select.EPOLLIN)

    def serve(self):
        while True:
            for fd, _ in self.epoll.poll():
                if fd == self.listener.fileno():
                    self.accept()
                else:
                    self.echo(fd)


def talk(peer, number, rounds):
    for turn in range(rounds):
        message = b"%08d %08d\n" % (number, turn)
        peer.sendall(message)
        answer = peer.recv(len(message), socket.MSG_WAITALL)
        if answer != message:
            raise ValueError(f"{answer} is not {message}")


def client(port, count):
    peers = []
    while len(peers) < count:
        try:
            peer = socket.create_connection(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            break
        # The server may have no descriptor left for it.
        peer.settimeout(2)
        try:
            talk(peer, len(peers), ROUNDS)
        except TimeoutError:
            peer.close()
            break
        peer.settimeout(None)
        peers.append(peer)
    print("holds", len(peers), flush=True)
    for number, peer in enumerate(peers):
        talk(peer, number, ROUNDS)
    print("verified", flush=True)
    sys.stdin.readline()


def mute(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    peers = []
    while True:
        peers.append(listener.accept()[0])


def lines(port, count):
    peers = []
    while len(peers) < count:
        try:
            peer = socket.create_connection(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            break
        for turn in range(5):
            peer.sendall(b"line %d\n" % turn)
        peers.append(peer)
    print("holds", len(peers), flush=True)


role, numbers = sys.argv[1], [int(word) for word in sys.argv[2:]]
{"server": lambda port: Server(port).serve(), "mute": mute, "lines": lines, "client": client}[role](*numbers)
