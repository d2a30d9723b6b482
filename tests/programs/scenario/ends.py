"""What every scenario needs: the two ends of a connection, a second channel to agree on the order of steps, and bytes
that tell where they belong."""

import array
import errno
import os
import resource
import socket
import time

WORD = 8


def say(*words):
    """States a fact."""
    print(*words, flush=True)


class End:
    """This end: `role`, and a Unix socket to the other, which no library moves anywhere."""

    def __init__(self, role, port):
        self.role, self.port = role, port
        self.address = ("127.0.0.1", port)
        if role == "server":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind("side")
            listener.listen()
            self.listener = socket.create_server(self.address, backlog=512)
            self.side = listener.accept()[0]
        else:
            self.side = socket.socket(socket.AF_UNIX)
            self.side.connect("side")

    def meet(self, step=""):
        """Waits until the other end is at the same step."""
        mine = step.encode().ljust(32)
        self.side.sendall(mine)
        theirs = self.side.recv(32, socket.MSG_WAITALL)
        assert mine == theirs, (mine, theirs)

    def open(self):
        """A new connection, still on TCP."""
        if self.role == "server":
            peer = self.listener.accept()[0]
        else:
            peer = socket.create_connection(self.address)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return peer

    def warm(self, peer, rounds=12):
        """Requests and replies, during which the connection moves if it can."""
        for turn in range(rounds):
            if self.role == "client":
                peer.sendall(b"request %04d" % turn)
                assert exactly(peer, 10) == b"reply %04d" % turn
            else:
                assert exactly(peer, 12) == b"request %04d" % turn
                peer.sendall(b"reply %04d" % turn)

    def moved(self):
        """A new connection that has moved, if it can."""
        peer = self.open()
        self.warm(peer)
        return peer


def exactly(peer, count):
    """So many bytes."""
    data = bytearray()
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part:
            raise EOFError(f"ended after {len(data)} of {count} bytes")
        data += part
    return bytes(data)


def until_end(peer):
    """Everything up to the end of the stream."""
    data = bytearray()
    while part := peer.recv(1 << 16):
        data += part
    return bytes(data)


def stream(seed, start, end):
    """Bytes `start..end` of a stream in which every eight bytes say where they stand."""
    first, last = start // WORD, (end + WORD - 1) // WORD
    words = array.array("Q", range((seed << 40) + first, (seed << 40) + last)).tobytes()
    return words[start - first * WORD : end - first * WORD]


def check_stream(peer, seed, total, sizes):
    """Receives so many bytes of a stream, in reads of the given sizes, and compares each."""
    done = 0
    while done < total:
        part = peer.recv(min(next(sizes), total - done))
        if not part:
            raise EOFError(f"ended after {done} of {total} bytes")
        if part != stream(seed, done, done + len(part)):
            raise ValueError(f"wrong byte between {done} and {done + len(part)}")
        done += len(part)


def attempt(call, *arguments):
    """What a call answers, or the name of its error."""
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def cpu_time():
    """Seconds that this process has computed."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def is_idle(wait):
    """Whether `wait`, which takes about a second, leaves the processor alone."""
    before, start = cpu_time(), time.monotonic()
    wait()
    used, took = cpu_time() - before, time.monotonic() - start
    if took < 0.5:
        return f"no: it took only {took:.3f} s"
    return "yes" if used < 0.1 else f"no: {used:.3f} s of {took:.3f} s"


def fill(peer):
    """Sends until a non-blocking send would wait; answers the bytes sent. Leaves the socket non-blocking."""
    peer.setblocking(False)
    sent, idle = 0, 0
    while idle < 5:
        try:
            sent += peer.send(stream(0, sent, sent + 65536))
            idle = 0
        except BlockingIOError:
            # TCP passes on what lies in the sender's buffer for a while.
            idle += 1
            time.sleep(0.02)
    return sent


def unlink(path):
    """Removes a file if it is there."""
    if os.path.exists(path):
        os.unlink(path)


def reap(child):
    say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def in_child(work):
    """Runs `work` in a forked child, which then exits without any closing of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child
