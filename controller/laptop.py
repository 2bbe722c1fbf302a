"""Where this machine keeps what can be made or fetched again."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Give where artifacts and environments are kept between runs (FLEETMARK_CACHE, else the user's cache folder)."""
    return Path(os.environ.get("FLEETMARK_CACHE") or platformdirs.user_cache_path("fleetmark", appauthor=False) / "controller")
