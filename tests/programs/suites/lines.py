"""One JSON line for each start and end of a test, appended to a file, so that what ran is known after a crash too."""

import faulthandler
import json
import os

# What a test did, worst last: a test of several parts is as good as its worst.
RANK = ["passed", "skipped", "expected failure", "unexpected success", "failed", "error"]


class Lines:
    """Writes for the process that made it; its forked children write nothing. A test may take so many seconds."""

    def __init__(self, path, limit):
        self.path, self.limit, self.pid = path, limit, os.getpid()
        self.outcome = {}

    def start(self, test):
        if os.getpid() == self.pid:
            # A suite may have put something without a descriptor in the place of sys.stderr.
            faulthandler.dump_traceback_later(self.limit, file=2, exit=True)
            self.outcome.pop(test, None)
            self._write(event="start", test=test)

    def add(self, test, outcome):
        self.outcome[test] = max(self.outcome.get(test, outcome), outcome, key=RANK.index)

    def end(self, test):
        if os.getpid() == self.pid:
            faulthandler.cancel_dump_traceback_later()
            # Without any word from unittest: all its subtests passed.
            self._write(event="end", test=test, outcome=self.outcome.pop(test, "passed"))

    def _write(self, **line):
        # No descriptor is kept: tests count theirs, and close what they do not know.
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, (json.dumps(line) + "\n").encode())
        os.close(fd)
