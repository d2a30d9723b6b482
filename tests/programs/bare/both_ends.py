"""Connections with both ends in this process, whose servers echo."""

import errno
import os
import signal
import socket
import threading

ended = threading.Semaphore(0)


def attempt(call):
    """What a call answers, or the name of its error."""
    try:
        return call()
    except OSError as error:
        return "EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode[error.errno]


def serve(listener):
    while True:
        peer = listener.accept()[0]
        threading.Thread(target=echo, args=(peer,), daemon=True).start()


def echo(peer):
    while data := attempt(lambda: peer.recv(100)):
        if data == "ECONNRESET":
            break
        peer.sendall(data)
    ended.release()


def listen():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    return listener


def elsewhere():
    """A connection that has moved to another process, and the number of that."""
    listener = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if child == 0:
        peer = listener.accept()[0]
        listener.close()
        echo(peer)
        os._exit(0)
    client = socket.create_connection(listener.getsockname())
    listener.close()
    exchange(client)
    return client, child


def stop(child):
    """It is in no call any more."""
    os.kill(child, signal.SIGSTOP)
    os.waitpid(child, os.WUNTRACED)


def exchange(client, rounds=20):
    """So many messages that the connection has moved, if it can."""
    for turn in range(rounds):
        client.sendall(b"message %04d" % turn)
        assert client.recv(100) == b"message %04d" % turn
    return "goes on"
