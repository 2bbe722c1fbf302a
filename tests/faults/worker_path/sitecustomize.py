"""Has every worker of a campaign write into its log which device and launch it is: cells that are mixed up show."""

import os
import sys

with open("/proc/self/cmdline", "rb") as words:  # Python 3.9 keeps its own words no longer than it needs them
    if b"worker" in words.read().split(b"\0"):
        sys.stderr.write("measured by {} in {}\n".format(os.environ.get("FAULTS_DEVICE"), os.path.basename(os.getcwd())))
