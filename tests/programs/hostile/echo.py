"""An echo server with one epoll set: `echo.py PORT`. Serves until it is killed."""

import select
import socket
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100)
epoll = select.epoll()
epoll.register(listener, select.EPOLLIN)
peers = {}


def serve(fd):
    try:
        data = peers[fd].recv(1 << 16)
        if data:
            peers[fd].sendall(data)
            return
    except OSError:
        pass
    epoll.unregister(fd)
    peers.pop(fd).close()


while True:
    for fd, _ in epoll.poll():
        if fd == listener.fileno():
            peer = listener.accept()[0]
            peers[peer.fileno()] = peer
            epoll.register(peer, select.EPOLLIN)
        else:
            serve(fd)
