"""Every pair of addresses that lies within one network namespace: loopback, IPv6, IPv4 in IPv6's clothes, and the host's
own addresses, the same at both ends or two of them."""

import os
import socket
import subprocess

from ends import exactly, say

CLONE_NEWNET = 0x40000000
HOST = ["10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2"]
LOOPBACK = ["127.77.0.1", "127.77.0.2", "::1", "::1"]


def enter_namespace(at):
    """Root gives both ends a namespace of their own, with addresses that are not loopback; others make do with loopback."""
    if os.geteuid() != 0:
        return LOOPBACK
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if at.role == "server":
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for address in HOST:
            bits = "128" if ":" in address else "32"
            subprocess.run(["ip", "address", "add", f"{address}/{bits}", "dev", "lo"], check=True)
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        socket.send_fds(at.side, [b"namespace"], [namespace])
    else:
        _, [namespace], _, _ = socket.recv_fds(at.side, 100, 1)
        assert libc.setns(namespace, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    return HOST


def pairs(own):
    """(family of the client, its address or None, family of the server, address it listens on, address called)."""
    v4, v6 = socket.AF_INET, socket.AF_INET6
    return [
        (v4, None, v4, "127.0.0.1", "127.0.0.1"),
        (v4, "127.1.2.3", v4, "0.0.0.0", "127.3.2.1"),
        (v4, None, v4, "0.0.0.0", "0.0.0.0"),
        (v6, None, v6, "::1", "::1"),
        (v4, None, v6, "::", "127.0.0.1"),
        (v6, None, v4, "127.0.0.1", "::ffff:127.0.0.1"),
        (v6, None, v6, "::", "::ffff:127.0.0.1"),
        (v4, None, v4, own[0], own[0]),
        (v4, own[1], v4, own[0], own[0]),
        (v4, own[1], v4, "0.0.0.0", own[0]),
        (v4, own[1], v6, "::", own[0]),
        (v4, "127.0.0.1", v4, own[0], own[0]),
        (v6, None, v6, own[2], own[2]),
        (v6, own[3], v6, own[2], own[2]),
    ]


def every_pair(at):
    for turn, (client, source, server, listens, called) in enumerate(pairs(enter_namespace(at))):
        if at.role == "server":
            listener = socket.socket(server)
            if server == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, listens != "::")
            listener.bind((listens, 0))
            listener.listen()
            at.side.sendall(b"%05d" % listener.getsockname()[1])
            peer = listener.accept()[0]
        else:
            port = int(at.side.recv(5, socket.MSG_WAITALL))
            peer = socket.socket(client)
            if source:
                peer.bind((source, 0))
            peer.connect((called, port))
        at.warm(peer, 20)
        say(turn, peer.family, peer.type, peer.getpeername()[0] if at.role == "client" else peer.getsockname()[0])
        at.meet("done")


every_pair_client = every_pair_server = every_pair
