"""Runs unittest's tests: `unittest_suite.py RESULTS LIMIT [--main] [--without CLASS]... MODULE...`.

With `--main` the one module is a program that finds and runs the tests by unittest's means.
"""

import argparse
import runpy
import sys
import unittest

from lines import Lines


class Result(unittest.TextTestResult):
    lines = None

    def startTest(self, test):
        super().startTest(test)
        self.lines.start(test.id())

    def stopTest(self, test):
        super().stopTest(test)
        self.lines.end(test.id())

    def _add(self, test, outcome):
        self.lines.add(test.id(), outcome)
        if not isinstance(test, unittest.TestCase):
            # A fixture of a class or a module: nothing says that it stops.
            self.lines.end(test.id())

    def addSuccess(self, test):
        super().addSuccess(test)
        self._add(test, "passed")

    def addError(self, test, err):
        super().addError(test, err)
        self._add(test, "error")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._add(test, "failed")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        # The skip of a part is the whole test's.
        self._add(getattr(test, "test_case", test), "skipped")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._add(test, "expected failure")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._add(test, "unexpected success")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._add(test, "failed" if issubclass(err[0], test.failureException) else "error")


def flatten(suite, without):
    """The tests, in the order of the suite; fixtures of classes and modules stay around them."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test, without)
        elif type(test).__name__ not in without:
            yield test


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    parser.add_argument("limit", type=float)
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--main", action="store_true")
    parser.add_argument("modules", nargs="+")
    args = parser.parse_args()
    sys.argv[1:] = []
    Result.lines = Lines(args.results, args.limit)
    if args.main:
        unittest.TextTestResult = Result
        runpy.run_module(args.modules[0], run_name="__main__", alter_sys=True)
        return
    loaded = unittest.defaultTestLoader.loadTestsFromNames(args.modules)
    suite = unittest.TestSuite(flatten(loaded, args.without))
    unittest.TextTestRunner(sys.stderr, verbosity=2, resultclass=Result).run(suite)


if __name__ == "__main__":
    main()
