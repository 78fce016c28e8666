"""The isolation of one worker process: the pod decides on a cell, and the worker enters it."""

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
"""Name of the file to work on, among the temporary files."""


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """How a pod isolates its workers: all of them in the same way."""

    policy: Policy = Policy.PREFER
    readable: tuple[str, ...] = ()
    """paths that a worker may read"""
    changes_user: bool = False
    """whether every worker runs as a user of its own"""
    needs_tree: bool = False
    """whether such a user reaches its code only in a root directory of its own"""

    def cell(self, folder: Path) -> "Cell":
        """Return the cell of one worker.

        Args:
            folder: of this worker's own; does not exist yet.
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
        hidden: what no worker may read, although it lies where code lies.
        more: paths that workers may read beside programs, libraries and code.
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
        "Workers run as the user of the pod, since others cannot read %s.", " or ".join(code)
    )
    return Isolation(policy=policy, readable=readable)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Where one worker process works, and who it is."""

    folder: Path
    """`in` in it is for files that it gets, `out` for what it leaves, `tmp` for all else"""
    readable: tuple[str, ...] = ()
    user: int | None = None
    """None for the user of the pod"""
    needs_tree: bool = False
    """whether the user reaches its code only in a root directory of its own"""
    is_open: bool = False
    """whether it is not isolated at all"""

    @cached_property  # A path takes as long as a system call.
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @cached_property
    def source(self) -> Path:
        """Where the worker writes content that comes with a job."""
        return self.temporary / SOURCE

    @cached_property
    def outbox(self) -> Path:
        return self.folder / "out"

    @cached_property
    def inbox(self) -> Path:
        return self.folder / "in"

    def make_folders(self) -> None:
        """Make the folders; those that the worker writes to belong to it alone.

        Raises:
            OSError: the disk is full, for example.
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
        """Isolate this process for good; may return in another process.

        Returns:
            The layers that this machine does not allow.

        Raises:
            OSError: the worker could not work, or a limit cannot be set.
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
            # Orphans come to this process, which can see that a job has left some.
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        elif not root.is_entered:
            missing.append(Layer.NAMESPACES)
        if self.needs_tree and not root.is_entered:
            raise OSError(errno.EACCES, "this user reaches its code only in a root of its own")
        if os.getuid() == 0:
            missing.append(Layer.USER)
        shares_user = self.user is None and not root.is_entered
        # Its own files in `/proc` are its own; all that keeps others out follows.
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
    """The root directory of the worker's own, once it is entered."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.is_entered = False
        self.has_own_proc = False

    def enter(self) -> None:
        """Enter it, where the kernel allows it."""
        cell = self._cell
        try:
            self.has_own_proc = tree.enter_tree(
                cell.folder / "root", readable=cell.readable, folder=cell.folder
            )
            self.is_entered = True
        except OSError as error:
            log.warning("no root directory of its own: %s", error)


def _try(layer: Layer, missing: list[Layer], act: Callable[[], None]) -> None:
    try:
        act()
    except OSError as error:
        log.warning("%s is missing: %s", layer.name.lower(), error)
        missing.append(layer)
