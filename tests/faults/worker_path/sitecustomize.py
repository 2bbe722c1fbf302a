"""Has every worker of a campaign write into its log which device and launch it is: cells that are mixed up show."""

import os
import sys

if "worker" in sys.orig_argv:
    sys.stderr.write("measured by {} in {}\n".format(os.environ.get("FAULTS_DEVICE"), os.path.basename(os.getcwd())))
