"""Whole files, pipes and many buffers at once."""

import array
import ctypes
import fcntl
import os
import socket
import termios
import time

from ends import attempt, exactly, fill, say, stream, until_end

DONTWAIT = socket.MSG_DONTWAIT
LIBC = ctypes.CDLL(None, use_errno=True)


def readable(peer):
    answer = array.array("i", [0])
    fcntl.ioctl(peer, termios.FIONREAD, answer)
    return answer[0]


FILE = 300_000


def write_file(name):
    with open(name, "wb") as file:
        file.write(stream(9, 0, FILE))
    return os.open(name, os.O_RDONLY)


def sendfile_client(at):
    file = write_file("sent")
    peer = at.open()
    for turn in range(14):
        # Across the change-over: with an offset, then from the file's own position.
        assert os.sendfile(peer.fileno(), file, 1000 * turn, 1000) == 1000
        assert os.sendfile(peer.fileno(), file, None, 500) == 500
        assert exactly(peer, 2) == b"ok"
    say("position", os.lseek(file, 0, os.SEEK_CUR))
    done = 0
    while done < FILE:
        done += os.sendfile(peer.fileno(), file, done, FILE)
    say("whole file", done, "at its end", os.sendfile(peer.fileno(), file, FILE, 10))
    pipe, _writer = os.pipe()
    say("from a pipe", attempt(os.sendfile, peer.fileno(), pipe, None, 100))
    peer.setblocking(False)
    fill(peer)
    say("full", attempt(os.sendfile, peer.fileno(), file, 0, FILE))


def sendfile_server(at):
    peer = at.open()
    for turn in range(14):
        assert exactly(peer, 1000) == stream(9, 1000 * turn, 1000 * turn + 1000)
        assert exactly(peer, 500) == stream(9, 500 * turn, 500 * turn + 500)
        peer.sendall(b"ok")
    say("whole", exactly(peer, FILE) == stream(9, 0, FILE))
    time.sleep(0.5)


def splicing(at):
    """Through pipes into the connection and out of it, as a proxy does; the peer checks the contents."""
    peer = at.moved()
    total = 4 << 20
    out, into = os.pipe()
    if at.role == "client":
        feeder = os.fork()
        if feeder == 0:
            done = 0
            while done < total:
                done += os.write(into, stream(8, done, done + min(50_000, total - done)))
            os._exit(0)
        done = 0
        while done < total:
            done += os.splice(out, peer.fileno(), min(1 << 16, total - done))
        os.waitpid(feeder, 0)
        say("empty pipe", attempt(os.splice, out, peer.fileno(), 100, None, None, os.SPLICE_F_NONBLOCK))
        peer.shutdown(socket.SHUT_WR)
        say("answer", until_end(peer))
    else:
        done = 0
        while done < total:
            moved = os.splice(peer.fileno(), into, 1 << 16)
            assert moved > 0, done
            data = b""
            while len(data) < moved:
                data += os.read(out, moved - len(data))
            assert data == stream(8, done, done + moved), done
            done += moved
        say("end", os.splice(peer.fileno(), into, 100))
        peer.sendall(b"all of it")


splice_client = splice_server = splicing


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.POINTER(Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", Msghdr), ("len", ctypes.c_uint)]


def messages(buffers):
    """struct mmsghdr of one buffer each."""
    iovecs = [Iovec(ctypes.addressof(buffer), len(buffer)) for buffer in buffers]
    array_type = Mmsghdr * len(buffers)
    return array_type(*[Mmsghdr(Msghdr(iov=ctypes.pointer(iovec), iovlen=1)) for iovec in iovecs]), iovecs


def many_messages_client(at):
    peer = at.open()
    for turn in range(12):
        buffers = [ctypes.create_string_buffer(b"%03d" % number, 3) for number in range(20)]
        headers, _kept = messages(buffers)
        say(LIBC.sendmmsg(peer.fileno(), headers, 20, 0), [header.len for header in headers][:3])
        assert exactly(peer, 2) == b"ok"
        say("writev", os.writev(peer.fileno(), [b"one", b"", b"three", b"x" * 100]))
        say("sendmsg", peer.sendmsg([b"a" * 7, b"b" * 5]))
        assert exactly(peer, 2) == b"ok"


def many_messages_server(at):
    peer = at.open()
    for turn in range(12):
        assert exactly(peer, 60) == b"".join(b"%03d" % number for number in range(20))
        peer.sendall(b"ok")
        at_once = [bytearray(3), bytearray(5), bytearray(100), bytearray(500)]
        while readable(peer) < 120:
            time.sleep(0.001)
        got = os.readv(peer.fileno(), at_once)
        say("readv", got, bytes(at_once[0]), bytes(at_once[1]), bytes(at_once[3][:12]))
        peer.sendall(b"ok")


def receive_many_client(at):
    peer = at.moved()
    at.meet("sent")
    time.sleep(0.1)
    buffers = [ctypes.create_string_buffer(4) for _ in range(5)]
    headers, _kept = messages(buffers)
    say(LIBC.recvmmsg(peer.fileno(), headers, 5, DONTWAIT, None), [header.len for header in headers])
    say([buffer.raw for buffer in buffers])
    data, ancillary, flags, address = peer.recvmsg(100, 100, DONTWAIT) if readable(peer) else (b"", [], 0, None)
    say("recvmsg", data, ancillary, flags, address)


def receive_many_server(at):
    peer = at.moved()
    peer.sendall(b"0123456789")
    at.meet("sent")
    time.sleep(0.3)


def receive_many_at_end_client(at):
    peer = at.moved()
    at.meet("closed")
    headers, _kept = messages([ctypes.create_string_buffer(4) for _ in range(5)])
    say(LIBC.recvmmsg(peer.fileno(), headers, 5, 0, None), [header.len for header in headers])


def receive_many_at_end_server(at):
    with at.moved() as peer:
        peer.sendall(b"0123456789")
    at.meet("closed")
