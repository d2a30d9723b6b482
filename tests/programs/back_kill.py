"""One end of a connection is killed while the other one's program is replaced by one without the library, at moments drawn
at random: `back_kill.py ROUNDS`. The survivor reads to the end. A stream that just ends has all that the dead one is known
to have written; one of which something is missing ends with an error."""

import mmap
import os
import random
import select
import signal
import socket
import struct
import sys
import time

BARE = {"PATH": os.environ["PATH"]}
# What a child has sent so far, and whether it came to its dangerous part.
written = mmap.mmap(-1, 16)


def warm(peer, asks):
    for _ in range(12):
        if asks:
            peer.sendall(b"?" * 12)
        assert exactly(peer, 12) == b"?" * 12
        if not asks:
            peer.sendall(b"?" * 12)


def exactly(peer, count):
    data = b""
    while len(data) < count:
        data += peer.recv(count - len(data))
    return data


def numbers(first, count):
    return struct.pack(f"<{count}I", *range(first, first + count))


def send_on(peer, most):
    """Numbers from nought on, until it is killed or has sent enough."""
    sent = 0
    while sent < most:
        count = min(random.choice((1, 100, 5000)), most - sent)
        peer.sendall(numbers(sent, count))
        sent += count
        written[:8] = struct.pack("<Q", sent)
        if random.random() < 0.3:
            select.select([peer], [], [], random.random() / 500)


def read_on(peer):
    """What came, as a line: how many numbers, and how it ended."""
    data = bytearray()
    try:
        while part := peer.recv(1 << 16):
            data += part
        how = "end"
    except OSError:
        how = "error"
    whole = len(data) // 4
    right = bytes(data[: whole * 4]) == numbers(0, whole)
    return f"{whole} {how} {right}"


def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def asker(listener, answers, seconds):
    """Is replaced, and reads; or sends, when it is the one to be killed."""
    peer = listener.accept()[0]
    listener.close()
    warm(peer, False)
    time.sleep(seconds)
    written[8] = 1
    os.dup2(peer.fileno(), 0)
    os.dup2(answers, 1)
    peer.close()
    os.execve(sys.executable, [sys.executable, __file__, "next"], BARE)


def round_of(listener, seed):
    random.seed(seed)
    kills_asker = seed % 2 == 1
    written[:16] = bytes(16)
    result, answers = os.pipe()
    pause = random.random() / 100

    def peer_work():
        peer = socket.create_connection(listener.getsockname())
        listener.close()
        warm(peer, True)
        if kills_asker:
            peer.sendall(numbers(0, 20_000))
            peer.settimeout(10)
            os.write(answers, read_on(peer).encode())
            return
        send_on(peer, 60_000)
        while True:
            select.select([peer], [], [], 0.001)

    asks, peer = child(lambda: asker(listener, answers, pause)), child(peer_work)
    os.close(answers)
    while not written[8]:
        time.sleep(0.0002)
    time.sleep(random.random() / (50 if kills_asker else 100))
    os.kill(asks if kills_asker else peer, signal.SIGKILL)
    os.waitpid(asks if kills_asker else peer, 0)
    known = struct.unpack("<Q", written[:8])[0]
    answer = os.read(result, 100).decode()
    os.close(result)
    os.waitpid(peer if kills_asker else asks, 0)
    return kills_asker, known, answer


def judge(kills_asker, known, answer):
    if not answer:
        # Refused, because the peer was dead by then with bytes unread in the ring.
        return "refused"
    count, how, right = answer.split()
    assert right == "True", answer
    if kills_asker:
        assert answer == f"0 {how} True", answer
    elif how == "end":
        assert int(count) >= known, (answer, known)
    return how


def main(rounds):
    outcomes = {}
    for seed in range(rounds):
        listener = socket.create_server(("127.0.0.1", 0))
        outcome = round_of(listener, seed)
        listener.close()
        try:
            kind = (outcome[0], judge(*outcome))
        except AssertionError:
            print("round", seed, *outcome)
            raise
        outcomes[kind] = outcomes.get(kind, 0) + 1
    print(outcomes)


if __name__ == "__main__":
    if sys.argv[1] == "next":
        os.write(1, read_on(socket.socket(fileno=0)).encode())
    else:
        main(int(sys.argv[1]))
