"""Works with memory, files and pipes for about a second; it opens no socket."""

import hashlib
import os
import tempfile

ROUNDS, BLOCK = 240_000, b"x" * 4096

digest = hashlib.sha256()
reader, writer = os.pipe()
with tempfile.TemporaryFile(buffering=0) as file:
    for turn in range(ROUNDS):
        os.write(writer, BLOCK)
        digest.update(os.read(reader, len(BLOCK)))
        os.pwrite(file.fileno(), BLOCK, turn % 64 * len(BLOCK))
        if turn % 64 == 0:
            file.seek(0)
        file.read(len(BLOCK))
