"""How long a launch measures and how many launches a cell gets (METHOD.md, workloads and profiles)."""

from dataclasses import dataclass

from controller.errors import FleetmarkError

MAX_SAMPLES = 200_000


@dataclass(frozen=True, slots=True)
class Profile:
    """A launch ends when both its minimum duration and its minimum number of queries are met, or at its deadline."""

    name: str
    launches: int
    min_duration_s: float
    min_queries: int
    warmup_min_s: float
    warmup_min_queries: int
    warmup_max_s: float
    deadline_s: float


PROFILES = {
    "quick": Profile("quick", 3, 0.5, 100, 0.1, 10, 10.0, 120.0),
    "standard": Profile("standard", 5, 3.0, 1000, 1.0, 50, 60.0, 600.0),
}


def get(name: str) -> Profile:
    """Give the profile called `name`; raises FleetmarkError for one that cannot be run."""
    if name not in PROFILES:
        raise FleetmarkError(f"profile {name!r} cannot be run yet", why="its stopping rule is not there", next="use quick or standard")
    return PROFILES[name]
