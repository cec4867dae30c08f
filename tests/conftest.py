"""What all tests share: fixtures of real processes, and how hypothesis behaves on slow machines."""

from hypothesis import HealthCheck, settings

from support.lab import lab, shared

__all__ = ["lab", "shared"]

# The same inputs in every run, and no verdict on how fast a busy machine makes them: a failure here is a defect, not the weather.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
