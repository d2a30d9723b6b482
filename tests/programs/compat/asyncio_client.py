"""Ten clients at once; each sends messages, reads its echo while it still sends, and compares."""

import asyncio
import random
import sys

CLIENTS = 10
MESSAGES = 300


async def converse(number):
    source = random.Random(number)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    for _ in range(MESSAGES):
        message = source.randbytes(source.randrange(1, 100_000))
        writer.write(message)
        answer, _ = await asyncio.gather(reader.readexactly(len(message)), writer.drain())
        assert answer == message, f"client {number}: the answer to {len(message)} bytes differs"
    writer.write_eof()
    assert await reader.read() == b"", f"client {number}: bytes after the end"
    writer.close()
    return MESSAGES


async def main():
    print("verified", sum(await asyncio.gather(*map(converse, range(CLIENTS)))))


asyncio.run(main())
