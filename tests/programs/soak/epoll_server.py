"""An echo server with one epoll set: `epoll_server.py PORT`. A connection whose first byte is "c" is closed at random.
Serves until it is killed."""

import random
import select
import socket
import sys

# Of the reads of a connection that may be closed, one in so many is its last.
READS = 200


class Peer:
    def __init__(self, peer):
        self.peer, self.waiting, self.may_close, self.ended = peer, bytearray(), None, False

    def serve(self):
        """Answers what the set is to wait for; 0 at the end."""
        if not self.waiting and not self.ended:
            data = self.peer.recv(1 << 16)
            self.ended = not data
            if self.may_close is None:
                self.may_close = data[:1] == b"c"
            if self.may_close and random.randrange(READS) == 0:
                return 0
            self.waiting += data
        if self.waiting:
            try:
                del self.waiting[: self.peer.send(self.waiting)]
            except BlockingIOError:
                pass
        if self.waiting:
            return select.EPOLLOUT
        return 0 if self.ended else select.EPOLLIN


def main(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    peers = {}
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                try:
                    peer = listener.accept()[0]
                except OSError:
                    continue
                peer.setblocking(False)
                peers[peer.fileno()] = Peer(peer)
                epoll.register(peer, select.EPOLLIN)
                continue
            try:
                wanted = peers[fd].serve()
            except BlockingIOError:
                continue
            except ConnectionError:
                wanted = 0
            if wanted:
                epoll.modify(fd, wanted)
            else:
                epoll.unregister(fd)
                peers.pop(fd).peer.close()


random.seed(1)
main(int(sys.argv[1]))
