"""What does not work at the moment although the pod can serve."""

from services.status.hub import Hub
from services.status.monitor import Monitor
from shared.supervision import Supervisor


def degraded(supervisor: Supervisor, hub: Hub, monitor: Monitor) -> list[str]:
    """Say what is degraded, each in one sentence; nothing while all is well."""
    missing = [supervisor.trouble, hub.degraded, monitor.degraded]
    return [*supervisor.degraded, *(each for each in missing if each is not None)]
