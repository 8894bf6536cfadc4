"""Settings for all tests."""

import os

from hypothesis import HealthCheck, settings

# Kernels compile in the first example that needs them, so there is no deadline.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=int(os.environ.get("EVTSIM_EXAMPLES", "60")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")
