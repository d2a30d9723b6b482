"""Many peers, and many connections that meet one at the same time."""

import select
import socket
import threading

from ends import exactly, in_child, reap, say

SERVERS = 12


def serve_one(listener):
    """An echo server of one connection at a time, twice, with a set."""
    for _ in range(2):
        peer = listener.accept()[0]
        epoll = select.epoll()
        epoll.register(peer, select.EPOLLIN)
        while epoll.poll(10) and (data := peer.recv(100)):
            peer.sendall(data)


def many_servers_server(at):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(SERVERS)]
    children = [in_child(lambda listener=listener: serve_one(listener)) for listener in listeners]
    for listener in listeners:
        at.side.sendall(b"%05d" % listener.getsockname()[1])
    for child in children:
        reap(child)


def many_servers_client(at):
    """Of so many peers not all are remembered between two connections; the second one works all the same."""
    ports = [int(at.side.recv(5, socket.MSG_WAITALL)) for _ in range(SERVERS)]
    for _ in range(2):
        for port in ports:
            with socket.create_connection(("127.0.0.1", port)) as peer:
                for turn in range(40):
                    peer.sendall(b"%08d" % turn)
                    assert exactly(peer, 8) == b"%08d" % turn
    say("served", SERVERS * 2)


THREADS = 6


def talk(at, failed):
    with socket.create_connection(at.address) as peer:
        peer.settimeout(10)
        for turn in range(60):
            peer.sendall(b"%08d" % turn)
            if exactly(peer, 8) != b"%08d" % turn:
                failed.append(turn)


def threads_meet_client(at):
    """Threads whose connections reach a new peer at the same time."""
    for _ in range(12):

        def work():
            failed = []
            threads = [threading.Thread(target=talk, args=(at, failed)) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failed

        reap(in_child(work))


def threads_meet_server(at):
    epoll = select.epoll()
    epoll.register(at.listener, select.EPOLLIN)
    peers, ended = {}, 0
    while ended < 12 * THREADS:
        for fd, _ in epoll.poll():
            if fd == at.listener.fileno():
                peer = at.listener.accept()[0]
                peers[peer.fileno()] = peer
                epoll.register(peer, select.EPOLLIN)
            elif data := peers[fd].recv(100):
                peers[fd].sendall(data)
            else:
                peers.pop(fd).close()
                ended += 1
