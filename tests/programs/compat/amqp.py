"""Publishes through one connection and consumes through another, with acknowledgements; compares every message."""

import random
import sys
import threading

import pika

MESSAGES = 3000
PARAMETERS = pika.ConnectionParameters("127.0.0.1", int(sys.argv[1]))


def messages():
    source = random.Random(1)
    for _ in range(MESSAGES):
        yield source.randbytes(source.randrange(1, 20_000))


def publish():
    with pika.BlockingConnection(PARAMETERS) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for message in messages():
            channel.basic_publish("", "compat", message)


verified = 0
with pika.BlockingConnection(PARAMETERS) as connection:
    channel = connection.channel()
    channel.queue_declare("compat")
    channel.basic_qos(prefetch_count=20)
    publisher = threading.Thread(target=publish)
    publisher.start()
    expected = messages()
    for method, _, body in channel.consume("compat"):
        assert body == next(expected), f"message {verified} differs"
        channel.basic_ack(method.delivery_tag)
        verified += 1
        if verified == MESSAGES:
            break
    channel.cancel()
    publisher.join()
print("verified", verified)
