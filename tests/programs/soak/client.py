"""Clients of an echo server: `client.py forks|epoll PORT SEED FILE COUNT`. In FILE it stores how often it was answered."""

import os
import random
import select
import socket
import sys
import time

# How long an answer may take; without it this client makes no more progress, and is taken to hang.
PATIENCE = 20
progress = 0


def step():
    global progress
    progress += 1
    os.pwrite(report, progress.to_bytes(8, "little"), 0)


class Talk:
    """A connection; the server may not close it."""

    def __init__(self):
        self.peer = socket.create_connection(("127.0.0.1", port))
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number, self.turn, self.expected, self.since = random.randrange(1 << 32), 0, b"", 0

    def message(self):
        self.turn += 1
        return (b"s%010d %06d " % (self.number, self.turn)) * random.randrange(1, 150)

    def exchange(self):
        message = self.message()
        self.peer.sendall(message)
        answer = self.peer.recv(len(message), socket.MSG_WAITALL)
        if answer != message:
            raise ValueError(f"{len(answer)} bytes, not the {len(message)} that were sent")
        step()


def forks():
    """Connections that a child goes on with, before they can move and after it, and the parent after the child's end."""
    while time.monotonic() < until:
        talks = [Talk() for _ in range(3)]
        for talk in talks:
            for _ in range(random.randrange(30)):
                talk.exchange()
        child = os.fork()
        if child == 0:
            for talk in talks:
                talk.exchange()
            own = Talk()
            for _ in range(random.randrange(30)):
                own.exchange()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"the child ended with {status}")
        for talk in talks:
            talk.turn += 1
            talk.exchange()
            talk.peer.close()


def answered(talk):
    data = talk.peer.recv(1 << 16)
    if not data or not talk.expected.startswith(data):
        raise ValueError(f"{data[:40]} is not {talk.expected[:40]}")
    talk.expected = talk.expected[len(data) :]
    step()


def epoll():
    """Many connections in one set, each with a message under way."""
    ready = select.epoll()
    talks = {}
    for _ in range(count):
        talk = Talk()
        talk.peer.setblocking(False)
        talks[talk.peer.fileno()] = talk
        ready.register(talk.peer, select.EPOLLIN)
    while time.monotonic() < until:
        for talk in random.sample(list(talks.values()), max(1, count // 20)):
            if not talk.expected:
                # A message is smaller than what a connection takes at once.
                talk.expected, talk.since = talk.message(), time.monotonic()
                if talk.peer.send(talk.expected) != len(talk.expected):
                    raise ValueError("no space in an empty connection")
        time.sleep(random.random() / 50)
        for fd, _ in ready.poll(0.01):
            answered(talks[fd])
        late = [talk for talk in talks.values() if talk.expected and time.monotonic() - talk.since > PATIENCE]
        if late:
            talk = late[0]
            print(f"{len(late)} late; {talk.peer.getsockname()} waits for {talk.expected[:40]}", flush=True)
            time.sleep(1000)


kind, port, seed, file, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
random.seed(seed)
report = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
until = time.monotonic() + random.uniform(2, 20)
{"forks": forks, "epoll": epoll}[kind]()
os._exit(0)
