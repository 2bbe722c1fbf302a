"""What each metric of the table is: its unit, how it is called, which way is better, and what it means (METHOD.md's definitions)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """`unit` is the one stored: s, 1/s, J, W, B, 1, pp or dB; `shown` picks the form people read, see reports.format."""

    unit: str
    label: str
    shown: str  # time | rate | energy | power | size | share | points | decibel | cosine | number
    better: str  # lower | higher


PERCENTILES = {"latency_p50_s": 0.50, "latency_p90_s": 0.90, "latency_p95_s": 0.95, "latency_p99_s": 0.99}

RUNTIME_PERCENTILES = {"runtime_latency_p50_s": 0.50}

COLD_START_PARTS = ("cold_start_process_s", "cold_start_import_s", "cold_start_load_s", "cold_start_first_inference_s")

ENERGIES = ("energy_gross_j", "energy_net_j")

POWERS = ("power_average_w", "power_peak_w", "power_idle_w", "power_at_rate_w")

MEMORIES = (
    "model_memory_bytes",
    "accelerator_memory_bytes",
    "accelerator_context_bytes",
    "pss_import_bytes",
    "pss_load_bytes",
    "pss_measure_bytes",
)

DRIFTS = ("drift_sqnr_db", "drift_cosine", "drift_max_abs")

ON_ACCELERATOR = ("accelerator_operation_share", "accelerator_time_share")

QUALITIES = ("map50", "roc_auc", "sequence_accuracy", "score")

TASK_METRICS = ("accuracy", *QUALITIES)

BESIDE_QUALITIES = ("eer", "error_rate")

METRICS = {
    "latency_p50_s": Metric("s", "p50 latency", "time", "lower"),
    "latency_p90_s": Metric("s", "p90 latency", "time", "lower"),
    "latency_p95_s": Metric("s", "p95 latency", "time", "lower"),
    "latency_p99_s": Metric("s", "p99 latency", "time", "lower"),
    "latency_mean_s": Metric("s", "mean latency, of other programs", "time", "lower"),
    "runtime_latency_p50_s": Metric("s", "p50 latency by the runtime's clock", "time", "lower"),
    "latency_early_stopping_s": Metric("s", "early-stopping estimate", "time", "lower"),
    "server_rate_per_s": Metric("1/s", "rate within the bound", "rate", "higher"),
    "sustained_p50_s": Metric("s", "steady p50 latency", "time", "lower"),
    "sustained_burst_p50_s": Metric("s", "burst p50 latency", "time", "lower"),
    "sustained_slowdown": Metric("1", "steady over burst p50", "number", "lower"),
    "time_to_throttle_s": Metric("s", "time to throttle", "time", "higher"),
    "throughput_per_s": Metric("1/s", "throughput", "rate", "higher"),
    "energy_gross_j": Metric("J", "energy per inference, gross", "energy", "lower"),
    "energy_net_j": Metric("J", "energy per inference, net", "energy", "lower"),
    "power_average_w": Metric("W", "average power", "power", "lower"),
    "power_peak_w": Metric("W", "peak power", "power", "lower"),
    "power_idle_w": Metric("W", "idle power", "power", "lower"),
    "power_at_rate_w": Metric("W", "power at the target rate", "power", "lower"),
    "meter_energy_gross_j": Metric("J", "energy per inference at the meter, gross", "energy", "lower"),
    "meter_energy_net_j": Metric("J", "energy per inference at the meter, net", "energy", "lower"),
    "meter_power_average_w": Metric("W", "average power at the meter", "power", "lower"),
    "meter_power_peak_w": Metric("W", "peak power at the meter", "power", "lower"),
    "meter_power_idle_w": Metric("W", "idle power at the meter", "power", "lower"),
    "meter_power_at_rate_w": Metric("W", "power at the target rate at the meter", "power", "lower"),
    "peak_memory_bytes": Metric("B", "peak memory", "size", "lower"),
    "model_memory_bytes": Metric("B", "model memory", "size", "lower"),
    "accelerator_memory_bytes": Metric("B", "accelerator memory", "size", "lower"),
    "accelerator_context_bytes": Metric("B", "accelerator context", "size", "lower"),
    "pss_import_bytes": Metric("B", "PSS after import", "size", "lower"),
    "pss_load_bytes": Metric("B", "PSS after load", "size", "lower"),
    "pss_measure_bytes": Metric("B", "PSS after measuring", "size", "lower"),
    "size_bytes": Metric("B", "model size", "size", "lower"),
    "cold_start_s": Metric("s", "cold start", "time", "lower"),
    "cold_start_process_s": Metric("s", "process start", "time", "lower"),
    "cold_start_import_s": Metric("s", "runtime import", "time", "lower"),
    "cold_start_load_s": Metric("s", "model load", "time", "lower"),
    "cold_start_first_inference_s": Metric("s", "first inference", "time", "lower"),
    "accelerator_operation_share": Metric("1", "operations on the accelerator", "share", "higher"),
    "accelerator_time_share": Metric("1", "time on the accelerator", "share", "higher"),
    "accuracy": Metric("1", "accuracy", "share", "higher"),
    "map50": Metric("1", "mAP@0.5", "share", "higher"),
    "roc_auc": Metric("1", "ROC-AUC", "share", "higher"),
    "eer": Metric("1", "equal error rate", "share", "lower"),
    "sequence_accuracy": Metric("1", "1 - error rate", "share", "higher"),
    "error_rate": Metric("1", "error rate", "share", "lower"),
    "score": Metric("1", "own score", "share", "higher"),
    "accuracy_change_pp": Metric("pp", "accuracy change", "points", "higher"),
    "drift_sqnr_db": Metric("dB", "SQNR", "decibel", "higher"),
    "drift_cosine": Metric("1", "cosine similarity", "cosine", "higher"),
    "drift_max_abs": Metric("1", "largest difference", "number", "lower"),
}

HEADLINES = {
    "single_stream": "latency_p90_s",
    "multi_stream": "latency_p99_s",
    "offline": "throughput_per_s",
    "server": "server_rate_per_s",
    "sustained": "sustained_p50_s",
}

GLOSSARY = (
    (
        "latency",
        "Monotonic time around one synchronous inference after warm-up, inputs and outputs bound beforehand. Nothing but the call is "
        "timed.",
    ),
    (
        "latency by the runtime's clock",
        "The same inferences as the runtime itself times them, where it does (OpenVINO: around the C++ call, as benchmark_app prints it). "
        "It leaves out the call from Python, some microseconds; nothing is ranked by it.",
    ),
    (
        "percentile pX",
        "The order statistic of the pooled raw samples of the valid launches. It is printed only if the smallest valid launch is large "
        "enough for a 95 % bound: p50 5, p90 29, p95 59, p99 299 samples. Otherwise: n too small.",
    ),
    (
        "interval",
        "95 %, Student t over the per-launch statistic (log scale for latency and throughput), degrees of freedom = valid launches - 1; "
        "none for fewer than 3 launches. The launch, one fresh process, is the replicate: iterations inside one are correlated.",
    ),
    (
        "comparison",
        "Welch t on logs of the per-launch statistic, paired by round on the same device. Tied: the interval of the ratio includes 1, or "
        "the difference is below 3 % or twice the device's noise floor, if that is more. Resolved: neither.",
    ),
    (
        "noise floor",
        "By how much identical cells of a device differ: each is measured twice under two labels in the same rounds (A/A), and the log "
        "ratios' root mean square, or their standard error where that is larger, is taken over the pairs.",
    ),
    (
        "throughput",
        "Completed inferences, each sample of a query or batch counted, / wall time of the measured window; never 1 / latency.",
    ),
    (
        "multi_stream, offline",
        "multi_stream: a query is several samples back to back, and its latency is that of all of them. offline: samples are given in "
        "batches without a pause; its latencies are those of batches, ranked is the throughput.",
    ),
    (
        "server, rate within the bound",
        "Queries arrive at random (Poisson, the seed is stored) and wait in one queue; latency runs from the arrival. The rate is the "
        "highest found by bisection whose p99 stays within the bound, to 1 %; the latencies shown are those at that rate.",
    ),
    (
        "sustained",
        "single_stream for minutes, in 60 blocks of equal time. Burst: the first block's p50. Time to throttle: when the first of three "
        "blocks on end begins whose p50 is more than 5 % above it. Steady p50: of all that follows, or of the second half if that never "
        "happens.",
    ),
    (
        "early-stopping estimate",
        "Profile strict: the order statistic that bounds the percentile the workload is ranked by at confidence 0.99, as LoadGen's "
        "early stopping takes it, per launch. These are not MLPerf results.",
    ),
    (
        "energy per inference",
        "Gross: the integral of power over the measured window / inferences. Net: gross minus idle power x window / inferences, with idle "
        "measured before and after. Readings that cover less than 90 % of the window, or fewer than 10 of them, give none.",
    ),
    (
        "power at the target rate",
        "Idle power and net energy per inference x the suite's rate_per_s (1 by default): the device does so many inferences a second and "
        "is idle in between. None above the rate that was measured.",
    ),
    (
        "power boundary",
        "What a power sensor sees: wall, board, soc, rail, stick or none. Values of different boundaries are never ranked nor averaged. A "
        "meter outside of the device that this machine reads is put on the device's clock; what that leaves open is in the error. Where a "
        "device has a sensor of its own besides, the meter's values have rows of their own.",
    ),
    (
        "peak memory",
        "Peak resident set of the worker from model load on, minus its value after importing the runtime; mean of the launches.",
    ),
    (
        "PSS, model memory",
        "Proportional set size: a process's own memory and its share of what it shares, at the end of the import of the runtime, of the "
        "model's load and of measuring. Model memory: by how much the load raised it; mean of the launches.",
    ),
    (
        "accelerator memory",
        "What a Jetson's GPU has taken of the common memory since before the load; accelerator context: what the runtime says that its "
        "execution takes there, without the weights. Where nothing tells, it is not observable, which is not zero.",
    ),
    ("model size", "Bytes of the artifact as it is shipped, all its files together."),
    (
        "cold start",
        "Process start, runtime imported, model loaded or compiled, first inference done, each part timed. Means of the launches, so "
        "that the parts add up. What is built once and kept on the device, as TensorRT's engines are, is no part of it.",
    ),
    (
        "operations, unattributed",
        "In a launch of its own with the runtime's profiling on: each operation's median time over the inferences (OpenVINO on the CPU: "
        "the average, which is all that it tells), and its share of the inference. Unattributed: 1 minus all shares, the runtime's own "
        "time and its rounding to microseconds; negative where operations ran at the same time.",
    ),
    (
        "on the accelerator",
        "The share of the operations that the accelerator ran, and their share of the time of all operations, where the runtime tells.",
    ),
    ("accuracy", "Share of the evaluation samples answered right on the device; the interval is Wilson's."),
    (
        "mAP@0.5, ROC-AUC, error rate",
        "The metric of a task that is no classification. Detection: mean average precision at IoU 0.5. Embedding: the area under the ROC "
        "curve of the cosine similarity of pairs; anomaly: of the score or the reconstruction error; beside both the equal error rate. "
        "Sequence: edits per symbol of CTC's best path. The interval is of 200 bootstrap draws of the samples.",
    ),
    (
        "accuracy change",
        "Of the task's metric: same samples, same device and backend, against the uncompressed reference fp32, in percentage points. Of an "
        "accuracy the interval is the paired one of Bonett and Price (2012), which like McNemar's test rests on the samples that changed "
        "sides; of others the bootstrap's, the same draws on both sides.",
    ),
    (
        "output drift",
        "Against the reference's outputs: signal-to-quantisation-noise ratio (SQNR), cosine similarity and largest absolute difference.",
    ),
    (
        "unsteady, throttled",
        "Unsteady: the second half of a launch is more than 5 % slower than the first, or its median never settles. Throttled: with "
        "evidence that the device slowed itself down. Both are shown, neither is averaged in nor ranked.",
    ),
    (
        "foreign protocol",
        "What another program measured (benchmark_app, benchmark_model, trtexec) or told (edgetpu_compiler), as fleetmark import read it. "
        "Its loop, its warm-up and its statistics are not ours: shown beside our rows, never ranked or compared with them.",
    ),
    ("emulated", "A device that another one simulates. Its numbers are labelled and never ranked against real hardware."),
)


def headline(workload: str) -> str:
    """The metric by which cells of a workload are ranked, with or without its options behind the name; p90 latency for one unknown."""
    return HEADLINES.get(workload.split(" ")[0], "latency_p90_s")
