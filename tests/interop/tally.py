"""Says which tests pass and which fail, and goes on after those that fail."""

import contextlib
import sys
import traceback


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    @contextlib.contextmanager
    def test(self, name):
        try:
            yield
        except Exception:
            self.failed += 1
            print(f"FAILED {name}")
            traceback.print_exc(file=sys.stdout)
        else:
            self.passed += 1
            print(f"ok {name}")

    def exit(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)
