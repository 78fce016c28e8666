"""Pipelines of one's own: plain functions, chosen by what is known of a file at its upload.

A plugin is a module that registers pipelines when it is imported. It is found by an entry point of
the group `waybill.plugins` or named by `WAYBILL_PLUGINS`; `docs/plugins.md` shows a whole one.
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
"""Bytes of one pipeline's settings: they go with each job, which has a bound."""


class PluginError(Exception):
    """A plugin cannot be used: the message says which one, and why."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Steps, the files that they are for, and what they may use."""

    name: str
    steps: tuple[Step, ...]
    content_types: tuple[str, ...] = ()
    """Patterns such as `image/*`; empty for any."""
    names: tuple[str, ...] = ()
    """Patterns of file names such as `*.csv`, in small letters; empty for any."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that the file must have."""
    settings: type[BaseModel] | None = None
    network: bool = False
    """Whether the steps may use the network."""
    time_limit: float | None = None
    """seconds; None for what the pod allows"""
    memory_limit: int | None = None
    """bytes, not above what the pod allows; None for just that"""
    max_attempts: int | None = None
    """None for what the pod allows"""

    def takes(self, *, content_type: str, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a file is one of those that this pipeline is for."""
        return (
            _matches(content_type, self.content_types)
            and _matches(name.lower(), self.names)
            and self.labels.items() <= labels.items()
        )

    def read_settings(self, environment: Mapping[str, str]) -> BaseModel | None:
        """The settings, from variables named `WAYBILL_<PIPELINE>_<FIELD>`.

        Raises:
            PluginError: a value is missing or wrong.
        """
        if self.settings is None:
            return None
        prefix = f"WAYBILL_{self.name}_".upper()
        names = {field: f"{prefix}{field.upper()}" for field in self.settings.model_fields}
        given = {field: environment[name] for field, name in names.items() if name in environment}
        try:
            settings = self.settings.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            name = names.get(str(first["loc"][0]) if first["loc"] else "", prefix)
            raise PluginError(f"pipeline {self.name}: {name}: {first['msg']}") from None
        if len(settings.model_dump_json().encode()) > MAX_SETTINGS:
            raise PluginError(
                f"pipeline {self.name}: its settings take more than {MAX_SETTINGS >> 10} KiB; have "
                "it read what is long from a file"
            )
        return settings


def _matches(value: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(value, pattern) for pattern in patterns)


_registered: dict[str, Pipeline] = {}
"""Filled by the import of plugins: the pod and each worker process import them for themselves."""


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
    """Register a pipeline; of several that take a file, the one registered first gets it.

    Raises:
        PluginError: it has no rule, no network though a step needs it, or a name that is taken.
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
        raise PluginError(f"pipeline {name}: give content_types, names or labels")
    if not network and any(map(needs_network, steps)):
        raise PluginError(f"pipeline {name}: a step needs the network; declare network=True")
    if name in _registered:
        raise PluginError(f"pipeline {name}: there is one of this name already")
    _registered[name] = made
    return made


def step(**rules: object) -> Callable[[Step], Step]:
    """Register a function as a pipeline of one step, under its own name.

    Args:
        rules: as of `pipeline`.
    """

    def register(function: Step) -> Step:
        pipeline(function.__name__, function, **rules)  # type: ignore[arg-type]
        return function

    return register


class Pipelines:
    """The pipelines of all plugins, for the pod to choose from."""

    def __init__(self, modules: tuple[str, ...], pipelines: Iterable[Pipeline]) -> None:
        """Raises:
        PluginError: the settings of one are missing or wrong.
        """
        self.modules = modules
        self._pipelines = {each.name: each for each in pipelines}
        self._settings = {
            name: each.read_settings(os.environ) for name, each in self._pipelines.items()
        }

    @property
    def any_network(self) -> bool:
        """Whether any of them needs worker processes with a network."""
        return any(each.network for each in self._pipelines.values())

    def choose(self, *, content_type: str, name: str, labels: Mapping[str, str]) -> Pipeline | None:
        """The pipeline for a file; None for the built-in one."""
        for each in self._pipelines.values():
            if each.takes(content_type=content_type, name=name, labels=labels):
                return each
        return None

    def job_of(self, name: str | None) -> PluginJob | None:
        """What a worker is told of a pipeline, which this pod perhaps does not have."""
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
    """Import all plugins, those of entry points and those that are `named`.

    Raises:
        PluginError: one cannot be imported, or is wrong.
    """
    found = [entry.module for entry in entry_points(group=GROUP)]
    modules = tuple(dict.fromkeys([*found, *named]))
    import_modules(modules)
    return Pipelines(modules, _registered.values())


def import_modules(modules: Iterable[str]) -> None:
    """Import plugins, which registers their pipelines.

    Raises:
        PluginError: one cannot be imported, or is wrong.
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
    """The pipeline of this name, once its plugin is imported."""
    return _registered.get(name)
