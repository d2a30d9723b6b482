"""Opens connections to a web server, makes some requests on each, then leaves them idle until its input ends.

`idle.py PORT CONNECTIONS PATH`
"""

import socket
import sys

REQUESTS = 4


def fetch(peer, request):
    peer.sendall(request)
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(4096)
    head, _, body = head.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    while len(body) < length:
        body += peer.recv(4096)


port, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
peers = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
for _ in range(REQUESTS):
    for peer in peers:
        fetch(peer, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
print("idle", flush=True)
sys.stdin.read()
