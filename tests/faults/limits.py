"""Time-outs of a campaign, short enough that stops of three times as long fit into it."""

import os

from controller.timeouts import Timeouts

SCALE = float(os.environ.get("FAULTS_SCALE", "1"))  # more on a machine that others keep busy
TIMEOUTS = Timeouts(
    begin_s=4 * SCALE,
    answer_s=3 * SCALE,
    work_s=4 * SCALE,
    transfer_s=3 * SCALE,
    keepalive_s=0.5 * SCALE,
    reply_s=1 * SCALE,
    reconnect_s=2 * SCALE,
    lease_s=5 * SCALE,
    kill_s=1 * SCALE,
    close_s=2 * SCALE,
)
PATIENCE_S = 1.0 * SCALE  # of a controller with its store
DEADLINE_S = 6.0 * SCALE  # of a launch, most of which take 0.5 s
STOP_S = 3 * (TIMEOUTS.keepalive_s + TIMEOUTS.reply_s)
HUNG_S = 60.0 * SCALE  # after which a controller is given up
GONE_S = TIMEOUTS.lease_s + DEADLINE_S  # within which a device is to be quiet
