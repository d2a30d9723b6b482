"""The peer is killed in the middle of its answer, when it puts unread bytes into TCP for a program that cannot have the library:
`back_answer.py alone|shared`. If a sibling has the connection, too, it finishes; if not, the connection is reset. A filter
kills whoever sets the option that is set there (TCP_NOTSENT_LOWAT), on a descriptor of that number."""

import ctypes
import os
import select
import signal
import socket
import struct
import sys

from back_kill import BARE, child, exactly, numbers, warm

FATAL = 77
COUNT = 20_000


def filter_calls():
    """A filter that outlives exec: the next program's library does not know of it."""
    setsockopt = {"x86_64": 54, "aarch64": 208}[os.uname().machine]
    load, equal, answer = 0x20, 0x15, 0x06
    program = [
        (load, 0, 0, 0), (equal, 0, 5, setsockopt),
        (load, 0, 0, 16), (equal, 0, 3, FATAL),
        (load, 0, 0, 32), (equal, 0, 1, socket.TCP_NOTSENT_LOWAT),
        (answer, 0, 0, 0x8000_0000), (answer, 0, 0, 0x7FFF_0000),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.addressof(whole), 0, 0) == 0


def asker(listener, answers):
    peer = listener.accept()[0]
    warm(peer, False)
    select.select([], [], [], 0.2)
    os.dup2(peer.fileno(), 0)
    os.dup2(answers, 1)
    peer.close()
    os.execve(sys.executable, [sys.executable, os.path.dirname(__file__) + "/back_kill.py", "next"], BARE)


def victim(peer):
    os.dup2(peer.fileno(), FATAL)
    peer.close()
    socket.socket(fileno=FATAL).recv(1)


def main(is_shared):
    listener = socket.create_server(("127.0.0.1", 0))
    result, answers = os.pipe()
    asks = child(lambda: asker(listener, answers))
    os.close(answers)
    peer = socket.create_connection(listener.getsockname())
    listener.close()
    warm(peer, True)
    peer.sendall(numbers(0, COUNT))
    dies = child(lambda: victim(peer))
    if not is_shared:
        peer.close()
    print("killed", os.waitstatus_to_exitcode(os.waitpid(dies, 0)[1]) == -signal.SIGSYS, flush=True)
    if is_shared:
        # Whatever it does with the connection, it finishes first.
        peer.setblocking(False)
        while os.waitpid(asks, os.WNOHANG)[0] == 0 and not select.select([result], [], [], 0.02)[0]:
            try:
                if not peer.recv(1):
                    break
            except BlockingIOError:
                peer.shutdown(socket.SHUT_WR)
    print(os.read(result, 100).decode())


if sys.argv[-1] == "filtered":
    main(sys.argv[1] == "shared")
else:
    filter_calls()
    os.execv(sys.executable, [sys.executable, __file__, sys.argv[1], "filtered"])
