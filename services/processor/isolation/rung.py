"""Levels and layers of worker isolation, and the policy that requires them."""

from collections.abc import Iterable
from enum import StrEnum


class Rung(StrEnum):
    """The isolation level of a pod's workers, best first."""

    NAMESPACES = "namespaces"
    """Own processes, network and root directory, plus Landlock and a system call filter."""
    LANDLOCK = "landlock"
    """Landlock and a system call filter, in the pod's namespaces."""
    NONE = "none"
    """A layer that untrusted files require is missing."""


class Policy(StrEnum):
    """How a pod reacts to an isolation level."""

    REQUIRE = "require"
    """Start only if no worker can reach the network, other files or secrets."""
    PREFER = "prefer"
    """Isolate as far as the machine supports it, and log what is missing."""
    OFF = "off"
    """Do not isolate workers at all."""


class Layer(StrEnum):
    """One layer that protects the pod from its workers."""

    NAMESPACES = "namespaces"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"
    USER = "user"


REMEDIES = {
    Layer.NAMESPACES: "allow `unshare` with user, PID, network, IPC and mount namespaces, and "
    "`mount` inside them; a seccomp profile or AppArmor may forbid this",
    Layer.LANDLOCK: "run on Linux 5.13 or later with `landlock` among its security modules "
    "(boot parameter `lsm=`), and allow the landlock_* system calls",
    Layer.SECCOMP: "run on a kernel with CONFIG_SECCOMP_FILTER, on x86-64 or ARM64",
    Layer.USER: "run the processor as an ordinary user; or as root with the capabilities CHOWN, "
    "DAC_OVERRIDE, FOWNER, KILL, SETGID and SETUID, and with Python code that every user can read",
}
"""How an operator can provide a missing layer."""


def rung_of(missing: Iterable[Layer]) -> Rung:
    """Return the isolation level of a worker that lacks these layers."""
    lacking = set(missing)
    if not lacking:
        return Rung.NAMESPACES
    return Rung.LANDLOCK if lacking == {Layer.NAMESPACES} else Rung.NONE


def refusal(policy: Policy, missing: Iterable[Layer]) -> str | None:
    """Return why a pod must not start without these layers, or None if it may start."""
    lacking = list(missing)
    if policy is not Policy.REQUIRE or rung_of(lacking) is not Rung.NONE:
        return None
    remedies = "; ".join(f"{layer}: {REMEDIES[layer]}" for layer in lacking)
    return (
        "WAYBILL_ISOLATION=require, but workers cannot be isolated here from the network, other "
        f"files and secrets. Missing: {remedies}. If you trust everyone who uploads files, set "
        "WAYBILL_ISOLATION=prefer."
    )
