"""One end of one scenario: `run.py SUBJECT SCENARIO server|client PORT`.

A subject is a module here, a scenario two functions in it, `SCENARIO_server(at)` and `SCENARIO_client(at)`. Both print
facts, which must be the same whichever way the connection carries its bytes.
"""

import faulthandler
import importlib
import os
import sys

from ends import End

LIMIT = 30

faulthandler.dump_traceback_later(LIMIT, exit=True)
subject, scenario, role, port = sys.argv[1:]
at = End(role, int(port))
getattr(importlib.import_module(subject), f"{scenario}_{role}")(at)
print("finished", flush=True)
# Sockets that are still open end with the process, as they do in a C program.
os._exit(0)
