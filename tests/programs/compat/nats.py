"""A publisher and a subscriber that speak NATS's text protocol; what arrives must be what was sent, in order."""

import random
import socket
import sys
import threading

MESSAGES = 5000
OPTIONS = b'CONNECT {"verbose":false,"pedantic":true}\r\n'


def connect(request):
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    answers = connection.makefile("rb")
    assert answers.readline().startswith(b"INFO ")
    connection.sendall(OPTIONS + request + b"PING\r\n")
    assert answers.readline() == b"PONG\r\n"
    return connection, answers


def messages():
    source = random.Random(1)
    for _ in range(MESSAGES):
        yield source.randbytes(source.randrange(1, 20_000))


def publish():
    connection, answers = connect(b"")
    for message in messages():
        connection.sendall(b"PUB compat %d\r\n%s\r\n" % (len(message), message))
    connection.sendall(b"PING\r\n")
    assert answers.readline() == b"PONG\r\n"


subscriber, answers = connect(b"SUB compat 1\r\n")
publisher = threading.Thread(target=publish)
publisher.start()
verified = 0
for message in messages():
    header = answers.readline()
    while header == b"PING\r\n":
        subscriber.sendall(b"PONG\r\n")
        header = answers.readline()
    assert header == b"MSG compat 1 %d\r\n" % len(message), header
    assert answers.read(len(message) + 2) == message + b"\r\n", f"message {verified} differs"
    verified += 1
publisher.join()
print("verified", verified)
