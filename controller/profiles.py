"""How long a launch measures and how many launches a cell gets (METHOD.md, workloads and profiles)."""

from dataclasses import dataclass, replace

from agent import early_stopping, server
from agent.schema import Workload
from agent.worker import MEASURE_UNTIL
from controller.errors import FleetmarkError
from controller.suite import Suite
from reports.metrics import HEADLINES, PERCENTILES
from reports.statistics import smallest_sample

MAX_SAMPLES = 200_000
PROFILED_INFERENCES = 30
SEARCH_S = 600.0  # a search's own deadline: at a low rate its queries take longer than its time

WINDOW_READINGS = 20  # of a meter: outside meters are for windows well over ten of their periods (HARDWARE.md)
IDLE_READINGS = 10  # before and after; a quarter of them while the device comes to rest


@dataclass(frozen=True, slots=True)
class Profile:
    """A launch ends when both its minimum duration and its minimum number of queries are met, or at its deadline.

    With `early_stopping` the number of queries is what LoadGen's rule needs at confidence 0.99. A cell's operations are timed over
    `profiled_inferences` in a launch of its own, which is not made for 0.
    """

    name: str
    launches: int
    min_duration_s: float
    min_queries: int
    warmup_min_s: float
    warmup_min_queries: int
    warmup_max_s: float
    deadline_s: float
    early_stopping: bool = False
    profiled_inferences: int = PROFILED_INFERENCES
    reads_meters: bool = True  # False: its launches are too short for power meters outside of the devices


PROFILES = {
    "quick": Profile("quick", 3, 0.5, 100, 0.1, 10, 10.0, 120.0, profiled_inferences=0, reads_meters=False),
    "standard": Profile("standard", 5, 3.0, 1000, 1.0, 50, 60.0, 600.0),
    "strict": Profile("strict", 5, 600.0, 1, 1.0, 50, 60.0, 1800.0, early_stopping=True),
}


def get(name: str) -> Profile:
    """Give the profile called `name`; raises FleetmarkError for one that nobody has."""
    if name not in PROFILES:
        raise FleetmarkError(f"no profile is called {name!r}", next=f"use {', '.join(PROFILES)}")
    return PROFILES[name]


def of_suite(suite: Suite) -> Profile:
    """Give the suite's profile, with or without the launch that times operations where the suite says which."""
    profile = get(suite.profile)
    if suite.operations is None:
        return profile
    return replace(profile, profiled_inferences=PROFILED_INFERENCES if suite.operations else 0)


def metered(profile: Profile, period_s: float) -> Profile:
    """Give the profile for a device on a meter that measures every `period_s`: its window has enough readings."""
    return replace(profile, min_duration_s=max(profile.min_duration_s, WINDOW_READINGS * period_s))


def unread(profile: Profile, workload: Workload) -> str:
    """Give why launches of this profile and workload get no energy from a meter, empty if they do."""
    if not profile.reads_meters:
        return f"launches of profile {profile.name} are too short for a meter: use profile standard"
    return "a search for a rate has no window of one rate" if workload.name == "server" else ""


def fitted(profile: Profile, workload: Workload) -> Profile:
    """Give the profile as a workload needs it: queries enough for its headline's percentile, time for its window before the deadline."""
    fitting = replace(profile, min_queries=max(profile.min_queries, _needed(profile, workload.name)))
    if workload.name == "sustained":
        duration_s = float(workload.options["duration_s"])
        return replace(fitting, min_duration_s=duration_s, deadline_s=profile.deadline_s + duration_s / MEASURE_UNTIL)
    if workload.name == "server":
        return replace(fitting, deadline_s=max(profile.deadline_s, SEARCH_S) + window_s(profile, workload) / MEASURE_UNTIL)
    return fitting


def _needed(profile: Profile, workload: str) -> int:
    quantile = 0.99 if workload == "server" else PERCENTILES.get(HEADLINES.get(workload, ""))
    if quantile is None:
        return 1
    return early_stopping.smallest_queries(quantile) if profile.early_stopping else smallest_sample(quantile)


def window_s(profile: Profile, workload: Workload) -> float:
    """Give about how long a workload's window takes, in seconds, on a device that is not too slow for its minimum of time."""
    if workload.name == "server":
        return (1 + server.TRIALS) * max(profile.min_duration_s, server.BOUNDS * float(workload.options["p99_s"]))
    return float(workload.options["duration_s"]) if workload.name == "sustained" else profile.min_duration_s


def driven(profile: Profile, workload: Workload) -> Workload:
    """Give the workload as the device is told it: a search under early stopping has to know."""
    if profile.early_stopping and workload.name == "server":
        return Workload(workload.name, {**workload.options, "early_stopping": True})
    return workload
