"""Fetches URL/0 to URL/(N-1), each through a connection of its own, and prints their SHA-256."""

import hashlib
import sys
import urllib.request

url, count = sys.argv[1], int(sys.argv[2])
for name in range(count):
    with urllib.request.urlopen(f"{url}/{name}") as answer:
        print(hashlib.sha256(answer.read()).hexdigest())
