"""The parts of a pod that are degraded while it can serve requests."""

from services.status.live.hub import Hub
from services.status.monitoring.monitor import Monitor
from shared.background.supervision import Supervisor


def degraded(supervisor: Supervisor, hub: Hub, monitor: Monitor) -> list[str]:
    """Return one sentence for each degraded part."""
    missing = [supervisor.unavailable_reason, hub.degraded, monitor.degraded]
    return [*supervisor.degraded, *(each for each in missing if each is not None)]
