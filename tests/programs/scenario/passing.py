"""Servers that pass their connections to other processes (SCM_RIGHTS), as pools of workers do."""

import array
import multiprocessing
import multiprocessing.reduction
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from ends import End, check_stream, exactly, say, stream, until_end

WORKERS = 3
CONNECTIONS = 12
BULK = 1 << 21
KILLS = 120


def served(peer):
    """Answers a word with the same word, to the end."""
    while word := peer.recv(8, socket.MSG_WAITALL):
        peer.sendall(word)
    peer.close()


def asks(peer, first, count):
    for turn in range(first, first + count):
        peer.sendall(b"%08d" % turn)
        assert exactly(peer, 8) == b"%08d" % turn


def in_child(work, *arguments):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(*arguments)
            code = 0
        finally:
            os._exit(code)
    return child


def pool_client(at):
    peers = []
    for _ in range(CONNECTIONS):
        peer = at.open()
        asks(peer, 0, 12)
        peers.append(peer)
        asks(peer, 12, 12)
    for turn in range(2, 6):
        for peer in peers:
            asks(peer, turn * 12, 12)
    for peer in peers:
        peer.shutdown(socket.SHUT_WR)
        say("end", peer.recv(1))


def works(channel):
    """A worker of multiprocessing's."""
    threads = []
    for _ in range(CONNECTIONS // WORKERS):
        handle = multiprocessing.reduction.recv_handle(channel)
        threads.append(threading.Thread(target=served, args=(socket.socket(fileno=handle),)))
        threads[-1].start()
    for thread in threads:
        thread.join()


def pool_server(at):
    """Workers that are forked; the dispatcher has read of each connection before it passes it on."""
    context = multiprocessing.get_context("fork")
    workers = []
    for _ in range(WORKERS):
        channel, theirs = context.Pipe()
        worker = context.Process(target=works, args=(theirs,))
        worker.start()
        theirs.close()
        workers.append((channel, worker))
    for number in range(CONNECTIONS):
        peer = at.open()
        for _ in range(12):
            peer.sendall(exactly(peer, 8))
        channel, worker = workers[number % WORKERS]
        multiprocessing.reduction.send_handle(channel, peer.fileno(), worker.pid)
        peer.close()
    for _, worker in workers:
        worker.join()
        say("worker", worker.exitcode)


def started_client(at):
    pool_client(at)


def started_server(at):
    """Workers that are programs of their own."""
    workers = []
    for _ in range(WORKERS):
        channel, theirs = socket.socketpair()
        words = [sys.executable, __file__, "worker", str(theirs.fileno())]
        workers.append((channel, subprocess.Popen(words, pass_fds=[theirs.fileno()])))
        theirs.close()
    for number in range(CONNECTIONS):
        peer = at.open()
        for _ in range(12):
            peer.sendall(exactly(peer, 8))
        channel, _ = workers[number % WORKERS]
        socket.send_fds(channel, [b"work"], [peer.fileno()])
        peer.close()
    for _, worker in workers:
        say("worker", worker.wait())


def worker(channel):
    threads = []
    for _ in range(CONNECTIONS // WORKERS):
        _, fds, _, _ = socket.recv_fds(channel, 4, 1)
        threads.append(threading.Thread(target=served, args=(socket.socket(fileno=fds[0]),)))
        threads[-1].start()
    for thread in threads:
        thread.join()


def becomes_client(at):
    for _ in range(3):
        peer = at.open()
        asks(peer, 0, 40)
        peer.shutdown(socket.SHUT_WR)
        say("end", peer.recv(1))


def becomes_server(at):
    """As inetd's helpers: who receives a connection becomes the program that serves it; or a child of his does."""
    ours, theirs = socket.socketpair()
    helper = in_child(becomes, theirs)
    for _ in range(3):
        peer = at.open()
        for _ in range(12):
            peer.sendall(exactly(peer, 8))
        socket.send_fds(ours, [b"x"], [peer.fileno()])
        peer.close()
        # The next one's handshake is not put off by a fork.
        assert ours.recv(1) == b"x"
    say("helper", os.waitpid(helper, 0)[1])


def becomes(channel):
    for turn in range(3):
        peer = socket.socket(fileno=socket.recv_fds(channel, 1, 1)[1][0])
        os.set_inheritable(peer.fileno(), True)
        words = [sys.executable, __file__, "served", str(peer.fileno())]
        if turn == 0:
            os.waitpid(in_child(os.execv, sys.executable, words), 0)
        elif turn == 1:
            os.waitpid(os.posix_spawn(sys.executable, words, os.environ), 0)
        else:
            channel.send(b"x")
            os.execv(sys.executable, words)
        peer.close()
        channel.send(b"x")


def reads_on(at, channel, following):
    """Reads a part of a stream, answers a part of one, and passes the connection on."""
    source = random.Random(os.getpid())
    while True:
        message, fds, _, _ = socket.recv_fds(channel, 16, 1)
        if not fds:
            return
        peer, done = socket.socket(fileno=fds[0]), int(message)
        part = min(source.choice((1, 999, 70_000, 300_000)), BULK - done)
        assert exactly(peer, part) == stream(1, done, done + part)
        peer.sendall(stream(2, done, done + part))
        if done + part == BULK:
            peer.close()
            return
        socket.send_fds(following, [b"%016d" % (done + part)], [peer.fileno()])
        peer.close()


def relay_server(at):
    """A stream that every process reads, and answers, a part of."""
    links = [socket.socketpair() for _ in range(WORKERS)]
    children = []
    for number in range(WORKERS):
        channel, following = links[number][1], links[(number + 1) % WORKERS][0]
        children.append(in_child(lambda: reads_on(at, channel, following)))
    peer = at.moved()
    socket.send_fds(links[0][0], [b"%016d" % 0], [peer.fileno()])
    peer.close()
    # One of them ends it, and then there is nobody who could go on.
    os.waitpid(-1, 0)
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ChildProcessError, ProcessLookupError):
            pass


def relay_client(at):
    peer = at.moved()
    sender = threading.Thread(target=peer.sendall, args=(stream(1, 0, BULK),))
    sender.start()
    check_stream(peer, 2, BULK, iter(lambda: 50_000, None))
    sender.join()
    say("end", peer.recv(1))


def dispatches(peer, channel, rounds):
    for _ in range(rounds):
        word = peer.recv(8, socket.MSG_WAITALL)
        if not word:
            return
        peer.sendall(word)
    socket.send_fds(channel, [b"x"], [peer.fileno()])
    peer.close()


def waits(channel):
    _, fds, _, _ = socket.recv_fds(channel, 1, 1)
    if fds:
        channel.close()
        served(socket.socket(fileno=fds[0]))


def killed_server(at):
    """Who passes a connection, or who gets it, is killed at some moment, and then the other one."""
    source = random.Random(at.port)
    for turn in range(KILLS):
        ours, theirs = socket.socketpair()
        receiver = in_child(lambda: (ours.close(), at.listener.close(), waits(theirs)))
        theirs.close()
        peer = at.open()
        sender = in_child(lambda: (at.listener.close(), dispatches(peer, ours, source.randrange(3, 30))))
        peer.close()
        ours.close()
        victims = [sender, receiver]
        source.shuffle(victims)
        for victim in victims:
            time.sleep(2 ** source.uniform(-11, -5.5))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)


def killed_client(at):
    longest = 0
    for turn in range(KILLS):
        peer = at.open()
        peer.settimeout(10)
        asked = 0
        try:
            while True:
                asks(peer, asked, 1)
                asked += 1
        except (EOFError, ConnectionResetError, BrokenPipeError):
            longest = max(longest, asked)
    # More than a dispatcher answers.
    say("ended", KILLS, "some went on", longest > 60)


def many_senders_client(at):
    for _ in range(200):
        peer = at.open()
        asks(peer, 0, 10)
        asks(peer, 10, 3)
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(1) == b""
    say("served")


def many_senders_server(at):
    """A process that is passed connections by many others, which have ended: it keeps nothing of them."""
    ours, theirs = socket.socketpair()

    def collects():
        for turn in range(200):
            _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
            served(socket.socket(fileno=fds[0]))
            if turn == 20:
                early = len(os.listdir("/proc/self/fd"))
        late = len(os.listdir("/proc/self/fd"))
        maps = sum("memfd:preloop" in line for line in open("/proc/self/maps"))
        say("descriptors", late <= early + 2, "mappings", maps < 30)

    collector = in_child(collects)
    for _ in range(200):
        peer = at.open()
        child = in_child(lambda: dispatches(peer, ours, 10))
        peer.close()
        os.waitpid(child, 0)
    os.waitpid(collector, 0)


if __name__ == "__main__":
    globals()[sys.argv[1]](*(socket.socket(fileno=int(fd)) for fd in sys.argv[2:]))
