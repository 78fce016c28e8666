"""Custom pipelines: plain functions, selected by a file's type, name and labels.

A plugin is a module that registers pipelines on import. It is found through an entry point of the
group `waybill.plugins` or named in `WAYBILL_PLUGINS`. `docs/plugins.md` contains a complete
example.
"""

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import entry_points

from pydantic import BaseModel, ValidationError

from services.processor.channel import PluginJob
from services.processor.steps.command import command_step
from services.processor.steps.document import Context, Document, Step
from services.processor.steps.http import http_step, needs_network
from shared.workerrors import PermanentError, TransientError

__all__ = [
    "Context",
    "Document",
    "PermanentError",
    "TransientError",
    "command_step",
    "http_step",
    "pipeline",
    "step",
]

GROUP = "waybill.plugins"

MAX_SETTINGS = 64 << 10
"""Bytes of one pipeline's settings, which are part of every job; jobs have a size limit."""


class PluginError(Exception):
    """A plugin cannot be used; the message names it and the reason."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Steps, the files they process, and the resources they may use."""

    name: str
    steps: tuple[Step, ...]
    content_types: tuple[str, ...] = ()
    """Patterns such as `image/*`; empty for any type."""
    names: tuple[str, ...] = ()
    """Patterns of file names such as `*.csv`, in lower case; empty for any name."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that the file must have."""
    settings: type[BaseModel] | None = None
    network: bool = False
    """True if the steps may use the network."""
    time_limit: float | None = None
    """Seconds; None for the pod's limit."""
    memory_limit: int | None = None
    """Bytes, at most the pod's limit; None for the pod's limit."""
    max_attempts: int | None = None
    """None for the pod's limit."""

    def takes(self, *, content_type: str, name: str, labels: Mapping[str, str]) -> bool:
        """Return True if this pipeline processes a file with these properties."""
        return (
            _matches(content_type, self.content_types)
            and _matches(name.lower(), self.names)
            and self.labels.items() <= labels.items()
        )

    def read_settings(self, environment: Mapping[str, str]) -> BaseModel | None:
        """Read the settings from variables named `WAYBILL_<PIPELINE>_<FIELD>`.

        Raises:
            PluginError: a value is missing or invalid.
        """
        if self.settings is None:
            return None
        prefix = f"WAYBILL_{self.name}_".upper()
        names = {field: f"{prefix}{field.upper()}" for field in self.settings.model_fields}
        values = {field: environment[name] for field, name in names.items() if name in environment}
        try:
            settings = self.settings.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            name = names.get(str(first["loc"][0]) if first["loc"] else "", prefix)
            raise PluginError(f"pipeline {self.name}: {name}: {first['msg']}") from None
        if len(settings.model_dump_json().encode()) > MAX_SETTINGS:
            raise PluginError(
                f"pipeline {self.name}: the settings exceed {MAX_SETTINGS >> 10} KiB; "
                "read long values from a file"
            )
        return settings


def _matches(value: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(value, pattern) for pattern in patterns)


_registered: dict[str, Pipeline] = {}
"""Filled when plugins are imported, separately in the pod and in each worker process."""


def pipeline(
    name: str,
    *steps: Step,
    content_types: Iterable[str] = (),
    names: Iterable[str] = (),
    labels: Mapping[str, str] | None = None,
    settings: type[BaseModel] | None = None,
    network: bool = False,
    time_limit: float | None = None,
    memory_limit: int | None = None,
    max_attempts: int | None = None,
) -> Pipeline:
    """Register a pipeline. If several match a file, the one registered first processes it.

    Raises:
        PluginError: no rule is given, a step needs the network without `network=True`, or the name
            is taken.
    """
    made = Pipeline(
        name=name,
        steps=steps,
        content_types=tuple(content_types),
        names=tuple(pattern.lower() for pattern in names),
        labels=labels or {},
        settings=settings,
        network=network,
        time_limit=time_limit,
        memory_limit=memory_limit,
        max_attempts=max_attempts,
    )
    if not (made.content_types or made.names or made.labels):
        raise PluginError(f"pipeline {name}: set content_types, names or labels")
    if not network and any(map(needs_network, steps)):
        raise PluginError(f"pipeline {name}: a step needs the network; set network=True")
    if name in _registered:
        raise PluginError(f"pipeline {name}: the name is taken; choose another")
    _registered[name] = made
    return made


def step(**rules: object) -> Callable[[Step], Step]:
    """Register a function as a single-step pipeline under its own name.

    Args:
        rules: keyword arguments of `pipeline`.
    """

    def register(function: Step) -> Step:
        pipeline(function.__name__, function, **rules)  # type: ignore[arg-type]
        return function

    return register


class Pipelines:
    """The pipelines of all plugins, from which the pod selects."""

    def __init__(self, modules: tuple[str, ...], pipelines: Iterable[Pipeline]) -> None:
        """Read the settings of each pipeline.

        Raises:
            PluginError: a setting is missing or invalid.
        """
        self.modules = modules
        self._pipelines = {each.name: each for each in pipelines}
        self._settings = {
            name: each.read_settings(os.environ) for name, each in self._pipelines.items()
        }

    @property
    def any_network(self) -> bool:
        """True if any pipeline needs worker processes with network access."""
        return any(each.network for each in self._pipelines.values())

    def choose(self, *, content_type: str, name: str, labels: Mapping[str, str]) -> Pipeline | None:
        """Return the pipeline for a file; None for the built-in one."""
        for each in self._pipelines.values():
            if each.takes(content_type=content_type, name=name, labels=labels):
                return each
        return None

    def job_of(self, name: str | None) -> PluginJob | None:
        """Return the pipeline's part of a job; this pod may not have the pipeline."""
        if name is None:
            return None
        chosen, settings = self._pipelines.get(name), self._settings.get(name)
        return PluginJob(
            modules=self.modules,
            pipeline=name,
            settings=settings.model_dump_json() if settings is not None else None,
            network=chosen is not None and chosen.network,
            seconds=chosen.time_limit if chosen else None,
            memory=chosen.memory_limit if chosen else None,
        )


def load_plugins(named: Iterable[str] = ()) -> Pipelines:
    """Import all plugins: those of entry points and those in `named`.

    Raises:
        PluginError: a plugin cannot be imported or is invalid.
    """
    found = [entry.module for entry in entry_points(group=GROUP)]
    modules = tuple(dict.fromkeys([*found, *named]))
    import_modules(modules)
    return Pipelines(modules, _registered.values())


def import_modules(modules: Iterable[str]) -> None:
    """Import plugins, which registers their pipelines.

    Raises:
        PluginError: a plugin cannot be imported or is invalid.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except PluginError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise PluginError(f"plugin {module} cannot be imported: {what}") from error


def registered(name: str) -> Pipeline | None:
    """Return the pipeline with this name, if its plugin has been imported."""
    return _registered.get(name)
