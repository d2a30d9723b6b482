"""A plugin for pytest: `python -m pytest -p pytest_lines`, with SUITE_RESULTS and SUITE_LIMIT in the environment."""

import os

from lines import Lines

LINES = Lines(os.environ["SUITE_RESULTS"], float(os.environ["SUITE_LIMIT"]))


def pytest_runtest_logstart(nodeid):
    LINES.start(nodeid)


def pytest_runtest_logreport(report):
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "expected failure" if report.skipped else "unexpected success"
    elif report.failed and report.when != "call":
        outcome = "error"
    LINES.add(report.nodeid, outcome)


def pytest_runtest_logfinish(nodeid):
    LINES.end(nodeid)
