"""Change-over at an exact offset, while bytes are in flight."""

import random
import threading

from ends import check_stream, say, stream, until_end

BULK = 12 << 20


def sizes(seed):
    generator = random.Random(seed)
    while True:
        yield int(2 ** generator.uniform(0, 17))


def send_stream(peer, seed, total, chunks):
    done = 0
    while done < total:
        size = min(next(chunks), total - done)
        peer.sendall(stream(seed, done, done + size))
        done += size


def both_at_once(peer, role, total, seed):
    mine, theirs = (1, 2) if role == "server" else (2, 1)
    sender = threading.Thread(target=send_stream, args=(peer, mine, total, sizes(f"{seed} out {role}")))
    sender.start()
    check_stream(peer, theirs, total, sizes(f"{seed} in {role}"))
    sender.join()


def both_ways(at):
    peer = at.open()
    both_at_once(peer, at.role, BULK, 0)
    say("verified", BULK)
    peer.shutdown(1)
    say("then", until_end(peer))


both_ways_server = both_ways_client = both_ways


def many_starts(at):
    """The change-over falls elsewhere each time: after so many round trips, in streams of another cut."""
    for turn in range(30):
        peer = at.open()
        at.warm(peer, turn % 7)
        both_at_once(peer, at.role, 1 << 19, turn)
        at.meet()
        peer.close()
    say("verified 30 streams")


many_starts_server = many_starts_client = many_starts


WRITERS = 4
EACH = 3 << 19
STREAMS = 16


def many_writers_client(at):
    """Every byte says which thread sent it and counts that thread's bytes."""
    for turn in range(STREAMS):
        peer = at.open()
        at.warm(peer, turn)

        def write(writer):
            data = bytes(writer << 6 | n & 63 for n in range(1 << 13)) * (EACH >> 13)
            chunks, done = sizes(f"{turn} {writer}"), 0
            while done < EACH:
                done += peer.send(data[done : done + next(chunks)])

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
        for thread in threads:
            thread.start()
        # Reading is what carries a handshake on, too.
        check_stream(peer, 3, 1 << 19, sizes("in"))
        for thread in threads:
            thread.join()
        peer.shutdown(1)
        at.meet()
    say("sent", WRITERS * EACH)


def many_writers_server(at):
    for turn in range(STREAMS):
        peer = at.open()
        at.warm(peer, turn)
        echo = threading.Thread(target=send_stream, args=(peer, 3, 1 << 19, sizes("out")))
        echo.start()
        data = until_end(peer)
        echo.join()
        own = [bytes(writer << 6 | n for n in range(64)) for writer in range(WRITERS)]
        for writer in range(WRITERS):
            others = b"".join(own[:writer] + own[writer + 1 :])
            say(turn, "writer", writer, data.translate(None, others) == own[writer] * (EACH >> 6))
        at.meet()


def server_speaks_first_server(at):
    """The client never sends before all has come."""
    peer = at.open()
    for turn in range(3000):
        peer.sendall(stream(5, turn * 1000, turn * 1000 + 1000))
        if turn % 100 == 99:
            at.meet()
    say("heard", until_end(peer))


def server_speaks_first_client(at):
    peer = at.open()
    chunks = iter(lambda: 1000, None)
    for turn in range(30):
        piece, done = stream(5, turn * 100_000, (turn + 1) * 100_000), 0
        while done < len(piece):
            part = peer.recv(min(next(chunks), len(piece) - done))
            assert part == piece[done : done + len(part)], (turn, done)
            done += len(part)
        at.meet()
    peer.sendall(b"thanks")
    peer.shutdown(1)
    say("verified 3000000")


def client_only_sends_client(at):
    peer = at.open()
    for turn in range(2000):
        peer.sendall(stream(6, turn * 1000, turn * 1000 + 1000))
    peer.shutdown(1)
    say("then", until_end(peer))


def client_only_sends_server(at):
    peer = at.open()
    check_stream(peer, 6, 2_000_000, sizes("in"))
    say("verified 2000000, then", until_end(peer))
