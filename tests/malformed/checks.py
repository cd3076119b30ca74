"""What the tests of hostile files share: counting checks, and running in a folder of their own."""

import os
import sys
import tempfile
from pathlib import Path

SHOWN = 40  # failures that are printed


class Check:
    def __init__(self):
        self.made = self.failed = 0

    def __call__(self, cond, message):
        self.made += 1
        if not cond:
            self.failed += 1
            if self.failed <= SHOWN:
                print("FAILED", message)

    def finish(self):
        """Ends the process with the verdict."""
        print(f"{self.made} checks, {self.failed} failed")
        sys.exit(1 if self.failed or not self.made else 0)


check = Check()


def run_tests(*tests):
    """Each leaves the current folder, an empty one, as it was. Ends the process."""
    with tempfile.TemporaryDirectory(prefix="loratool-") as scratch:
        os.chdir(scratch)
        for test in tests:
            test()
            check(not os.listdir(scratch), f"{test.__name__} left behind: {os.listdir(scratch)}")
        os.chdir("/")
    check.finish()
