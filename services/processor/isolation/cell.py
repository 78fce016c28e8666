"""The isolation of one worker process: the pod prepares a cell, and the worker enters it."""

import errno
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from services.processor.isolation import identity, landlock, namespaces, paths, seccomp, tree
from services.processor.isolation.kernel import (
    IS_LINUX,
    PR_SET_CHILD_SUBREAPER,
    prctl,
    set_dumpable,
)
from services.processor.isolation.limits import (
    MAX_PROCESSES,
    Limits,
    drop_privileges,
    kill_with_parent,
    processes_of_user,
)
from services.processor.isolation.rung import Layer, Policy

log = logging.getLogger(__name__)

SOURCE = "source"
"""Name of the file to process, among the temporary files."""


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """The isolation that all workers of a pod share."""

    policy: Policy = Policy.PREFER
    readable: tuple[str, ...] = ()
    """Paths that a worker may read."""
    changes_user: bool = False
    """True if every worker runs as a different user."""
    needs_tree: bool = False
    """True if such a user can reach its code only in a root directory of its own."""

    def cell(self, folder: Path) -> "Cell":
        """Return the cell of one worker.

        Args:
            folder: the worker's directory; it does not exist yet.
        """
        user = identity.next_user() if self.changes_user else None
        return Cell(
            folder=folder,
            readable=self.readable,
            user=user,
            needs_tree=self.needs_tree,
            is_open=self.policy is Policy.OFF,
        )


def prepare_isolation(
    policy: Policy = Policy.PREFER,
    *,
    hidden: Iterable[str | Path] = (),
    more: Iterable[str] = (),
) -> Isolation:
    """Decide how workers are isolated on this machine.

    Args:
        hidden: paths that no worker may read, even inside code directories.
        more: paths that workers may read in addition to programs, libraries and code.
    """
    readable = paths.readable_paths(hidden, more)
    if policy is Policy.OFF or not identity.has_capabilities():
        return Isolation(policy=policy, readable=readable)
    code = (os.__file__, __file__)
    is_reachable = identity.can_be_read_by_others(code, with_parents=True)
    is_readable = identity.can_be_read_by_others(code, with_parents=False)
    if is_reachable or (is_readable and namespaces.can_make(with_user_namespace=False)):
        return Isolation(
            policy=policy, readable=readable, changes_user=True, needs_tree=not is_reachable
        )
    log.warning(
        "Workers run as the user of the pod, since other users cannot read %s.", " or ".join(code)
    )
    return Isolation(policy=policy, readable=readable)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The directories and the user of one worker process."""

    folder: Path
    """Contains `in` for input files, `out` for output files, and `tmp` for all others."""
    readable: tuple[str, ...] = ()
    user: int | None = None
    """None for the pod's user."""
    needs_tree: bool = False
    """True if the user can reach its code only in a root directory of its own."""
    is_open: bool = False
    """True if it is not isolated at all."""

    @cached_property  # Creating a `Path` takes as long as a system call.
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @cached_property
    def source(self) -> Path:
        """The file to which the worker writes the content of a small job."""
        return self.temporary / SOURCE

    @cached_property
    def outbox(self) -> Path:
        return self.folder / "out"

    @cached_property
    def inbox(self) -> Path:
        return self.folder / "in"

    def make_folders(self) -> None:
        """Create the folders; those that the worker writes to belong to its user.

        Raises:
            OSError: for example, the disk is full.
        """
        self.folder.mkdir()
        self.folder.chmod(0o711)
        for name, mode in (("in", 0o711), ("root", 0o755), ("out", 0o700), ("tmp", 0o700)):
            each = self.folder / name
            each.mkdir()
            each.chmod(mode)
            if self.user is not None and name in ("out", "tmp"):
                os.chown(each, self.user, self.user)

    def enter(self, limits: Limits) -> tuple[Layer, ...]:
        """Isolate this process permanently. May return in a different process.

        Returns:
            The layers that this machine does not support.

        Raises:
            OSError: the worker could not run, or a limit cannot be set.
        """
        if self.is_open or not IS_LINUX:
            drop_privileges(limits, processes=None)
            return tuple(Layer)
        missing: list[Layer] = []
        root = _Tree(self)
        has_namespaces = namespaces.enter_namespaces(
            network=limits.network, user=self.user, prepare=root.enter
        )
        if not has_namespaces and self.user is not None:
            identity.become(self.user)
            kill_with_parent()
            has_namespaces = namespaces.enter_namespaces(network=limits.network, prepare=root.enter)
        if not has_namespaces:
            missing.append(Layer.NAMESPACES)
            # Adopt orphans, so that this process can detect those that a job has left.
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        elif not root.is_entered:
            missing.append(Layer.NAMESPACES)
        if self.needs_tree and not root.is_entered:
            raise OSError(errno.EACCES, "this user can reach its code only in a root of its own")
        if os.getuid() == 0:
            missing.append(Layer.USER)
        shares_user = self.user is None and not root.is_entered
        # Own the process's files in `/proc`; the restrictions against others follow.
        set_dumpable(dumpable=True)
        os.chdir(self.temporary)
        shares_count = self.user is None and not has_namespaces
        drop_privileges(
            limits, processes=MAX_PROCESSES + (processes_of_user() if shares_count else 0)
        )
        _try(Layer.LANDLOCK, missing, lambda: self._restrict_files(root, network=limits.network))
        wanted = seccomp.Filter(
            network=limits.network,
            has_own_processes=has_namespaces,
            shares_user=shares_user,
            has_own_signals=landlock.abi() >= landlock.ABI_SCOPES and Layer.LANDLOCK not in missing,
            may_truncate=landlock.abi() >= landlock.ABI_TRUNCATE,
        )
        _try(Layer.SECCOMP, missing, lambda: seccomp.install(wanted))
        return tuple(missing)

    def _restrict_files(self, root: "_Tree", *, network: bool) -> None:
        rules = [(path, landlock.READ) for path in self.readable]
        rules += [(device, landlock.DEVICE) for device in tree.DEVICES]
        rules += [(str(self.inbox), landlock.READ_FILE)]
        rules += [(str(each), landlock.READ | landlock.CHANGE) for each in self._own_folders]
        if root.is_entered:
            rules += [(tree.SHARED_MEMORY, landlock.CHANGE), ("/", landlock.READ_DIR)]
        if root.has_own_proc:
            rules += [("/proc", landlock.READ)]
        else:
            rules += [(path, landlock.READ) for path in paths.PROC_FACTS]
        landlock.restrict(rules, network=network)

    @property
    def _own_folders(self) -> tuple[Path, Path]:
        return self.outbox, self.temporary


class _Tree:
    """The worker's own root directory, once entered."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.is_entered = False
        self.has_own_proc = False

    def enter(self) -> None:
        """Enter it, if the kernel allows it."""
        cell = self._cell
        try:
            self.has_own_proc = tree.enter_tree(
                cell.folder / "root", readable=cell.readable, folder=cell.folder
            )
            self.is_entered = True
        except OSError as error:
            log.warning("the worker gets no root directory of its own: %s", error)


def _try(layer: Layer, missing: list[Layer], act: Callable[[], None]) -> None:
    try:
        act()
    except OSError as error:
        log.warning("isolation layer %s is missing: %s", layer.name.lower(), error)
        missing.append(layer)
