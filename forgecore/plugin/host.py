"""The plugin host: discovery, order, guarded calls, and who gave what."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Generic, TypeVar, cast

import pluggy
from attrs import frozen

from forgecore.diagnostics import Diagnostic
from forgecore.ir import FieldTypeError
from forgecore.names import near
from forgecore.plugin import hookspecs
from forgecore.plugin.artefacts import Order
from forgecore.plugin.border import TookTooLong, guarded
from forgecore.plugin.contexts import SchemaContext
from forgecore.plugin.hookspecs import EACH, OF_EACH
from forgecore.source import Span
from forgecore.times import spent

T = TypeVar("T")
GROUP: Final = "forgecore"
_TIMEOUT: Final = timedelta(seconds=60)
"""For what is done before forge.toml has been read."""


@frozen(kw_only=True)
class Plugin:
    """An open plugin: its name, what brings it, and its module of hookimpls."""

    name: str
    distribution: str
    version: str
    module: ModuleType

    @property
    def folder(self) -> Path:
        """The folder of its package, or its one file: a build depends on all that is in it."""
        top = sys.modules.get(self.module.__name__.partition(".")[0])
        if file := getattr(top, "__file__", None):
            path = Path(file)
            return path.parent if path.name == "__init__.py" else path
        # Several distributions may share the top of its name: then it is what is beside it.
        return Path(self.module.__file__ or "").parent

    @property
    def label(self) -> str:
        """How messages name it: the name, the distribution and its version."""
        return f"plugin `{self.name}` ({self.distribution} {self.version})"


@frozen
class Answer(Generic[T]):
    """Something that a plugin gave."""

    plugin: Plugin
    value: T
    of: str | None = None
    """The resource that it was asked for, if it was asked for one."""


@frozen
class Host:
    """The open plugins of a project, in order."""

    plugins: tuple[Plugin, ...]
    manager: pluggy.PluginManager
    timeout: timedelta = _TIMEOUT
    """How long a plugin may take for one answer."""

    @property
    def names(self) -> tuple[str, ...]:
        """The plugins' names, in order."""
        return tuple(plugin.name for plugin in self.plugins)

    def answers_of(self, plugin: Plugin) -> list[str]:
        """Return the hookspecs that a plugin has hookimpls of."""
        hooks = vars(self.manager.hook).items()
        return sorted(
            name
            for name, hook in hooks
            if name.startswith("forgecore_")
            and any(impl.plugin_name == plugin.name for impl in hook.get_hookimpls())
        )

    def call(
        self,
        hook: str,
        context: object,
        wanted: type[T] | tuple[type[T], ...],
        each: Sequence[SchemaContext] = (),
    ) -> tuple[list[Answer[T]], list[Diagnostic]]:
        """Call every hookimpl of `hook` guarded; return what they gave, one by one, and who failed.

        A hookimpl may give one thing, several, or None. One under @each_resource is called
        with each context of `each` instead.
        """
        answers: list[Answer[T]] = []
        failures: list[Diagnostic] = []
        for plugin in self.plugins:
            for function in self._functions(plugin, hook):
                if not hasattr(function, EACH):
                    given, failed = self._called(plugin, hook, function, context, wanted)
                    answers += [Answer(plugin, one) for one in given]
                    failures += failed
                    continue
                for one_context in each:
                    name = one_context.resource.name
                    called = f"{hook} for {name}"
                    given, failed = self._called(plugin, called, function, one_context, wanted)
                    failures += failed or list(_of_another(plugin, hook, name, given))
                    answers += [Answer(plugin, one, name) for one in given]
                    if failed:
                        # What fails for one resource fails for most.
                        break
        return answers, failures

    def call_one(
        self, plugin: Plugin, hook: str, context: object, wanted: type[T] | tuple[type[T], ...]
    ) -> tuple[list[T], list[Diagnostic]]:
        """Call the hookimpl of one plugin, if it has one."""
        given: list[T] = []
        failures: list[Diagnostic] = []
        for function in self._functions(plugin, hook):
            more, failed = self._called(plugin, hook, function, context, wanted)
            given += more
            failures += failed
        return given, failures

    def _called(
        self,
        plugin: Plugin,
        hook: str,
        function: Callable[..., object],
        context: object,
        wanted: type[T] | tuple[type[T], ...],
    ) -> tuple[list[T], list[Diagnostic]]:
        try:
            with spent("plugin", plugin.name), guarded(self.timeout):
                given = list(_each(function(context)))
        except FieldTypeError as error:
            return [], [Diagnostic("plugin-failed", None, str(error))]
        except (Exception, SystemExit, TookTooLong) as error:  # noqa: BLE001 -- a border: the plugin is named
            return [], [_failure(plugin, hook, error)]
        wrong = [one for one in given if not isinstance(one, wanted)]
        if not wrong:
            return [cast("T", one) for one in given], []
        classes: tuple[type, ...] = wanted if isinstance(wanted, tuple) else (wanted,)
        names = " or ".join(cls.__name__ for cls in classes)
        text = f"{plugin.label}: {hook} gave {type(wrong[0]).__name__}, not {names}"
        return [], [Diagnostic("plugin-failed", None, text)]

    def _functions(self, plugin: Plugin, hook: str) -> list[Callable[..., object]]:
        # pluggy's own call drops the others' answers when one raises, and does not say which.
        hookimpls: list[pluggy.HookImpl] = getattr(self.manager.hook, hook).get_hookimpls()
        found = [impl.function for impl in hookimpls if impl.plugin_name == plugin.name]
        return sorted(found, key=_line)


def _of_another(
    plugin: Plugin, hook: str, name: str, given: Iterable[object]
) -> Iterator[Diagnostic]:
    for one in given:
        of = getattr(one, "resource", name)
        if of != name:
            text = f"{plugin.label}: {hook} was asked for {name}, and gave what is of {of}"
            yield Diagnostic("plugin-failed", None, text)


def _line(function: Callable[..., object]) -> int:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_firstlineno if code else 0


def installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points of the group by name, from metadata alone."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, _brings(e)[0])):
        found.setdefault(entry.name, []).append(entry)
    return found


def open_host(
    names: Sequence[str] | None,
    builtin: Sequence[Plugin],
    place: Callable[[str], Span | None] = lambda _name: None,
) -> tuple[Host, list[Diagnostic]]:
    """Import the plugins `names` (None: every installed one) and bring them into order.

    `builtin` are the core's own, which stand before any other unless they are told apart.
    Nothing else is imported.
    """
    available = installed()
    diagnostics: list[Diagnostic] = []
    plugins = list(builtin)
    for name in dict.fromkeys(available if names is None else names):
        entries = available.get(name, [])
        if not entries:
            text = f"plugin `{name}` is not installed (`pip install forgecore-{name}`?)"
            diagnostics.append(
                Diagnostic("unknown-plugin", place(name), text, near(name, available))
            )
            continue
        brought = sorted({_brings(entry) for entry in entries})
        if len(entries) > 1 or name in {plugin.name for plugin in builtin}:
            by = " and ".join(f"{distribution} {version}" for distribution, version in brought)
            text = f"two plugins are called `{name}`: {by}"
            diagnostics.append(Diagnostic("duplicate", place(name), text))
            continue
        try:
            with guarded(_TIMEOUT):
                module = importlib.import_module(entries[0].module)
        except (Exception, SystemExit, TookTooLong) as error:  # noqa: BLE001 -- a border: the plugin is named
            distribution, version = brought[0]
            text = (
                f"plugin `{name}` ({distribution} {version}) cannot be imported: "
                f"{_said(error)}{where(error)}"
            )
            diagnostics.append(Diagnostic("plugin-failed", place(name), text))
            continue
        distribution, version = brought[0]
        plugins.append(Plugin(name=name, distribution=distribution, version=version, module=module))
    manager = pluggy.PluginManager("forgecore")
    manager.add_hookspecs(hookspecs)
    known = {name for name in vars(hookspecs) if name.startswith("forgecore_")}
    for plugin in plugins:
        diagnostics += _misspelt(plugin, known)
        if not isinstance(given := _given_order(plugin), Order):
            text = f"{plugin.label}: forgecore_order is {type(given).__name__}, not Order"
            diagnostics.append(Diagnostic("plugin-failed", place(plugin.name), text))
        try:
            manager.register(plugin.module, plugin.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            text = f"{plugin.label}: {str(error).splitlines()[-1].strip()}"
            diagnostics.append(Diagnostic("plugin-failed", place(plugin.name), text))
    ordered, cycle = _in_order(plugins)
    if cycle:
        text = f"plugins want to come before each other: {' -> '.join(cycle)}"
        diagnostics.append(Diagnostic("plugin-order", None, text))
    return Host(tuple(ordered), manager), diagnostics


def _each(given: object) -> Iterable[object]:
    if given is None:
        return ()
    if isinstance(given, Iterable) and not isinstance(given, type | str):
        return cast("Iterable[object]", given)
    return (given,)


def _failure(plugin: Plugin, hook: str, error: BaseException) -> Diagnostic:
    folder = str(Path(plugin.module.__file__ or "").parent)
    text = f"{plugin.label}: {hook} raised {_said(error)}{where(error, folder)}"
    return Diagnostic("plugin-failed", None, text)


def _said(error: BaseException) -> str:
    # Validators of attrs give a text and then what it is about.
    first = error.args[0] if error.args and isinstance(error, TypeError) else error
    return f"{type(error).__name__}: {first}"


def where(error: BaseException, folder: str = "") -> str:
    """Return the place where an error was raised, in code below `folder` if there is one."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    # The place that its author can mend comes before one in a library that it calls.
    own = [frame for frame in frames if folder and frame.filename.startswith(folder)] or frames
    return f" (at {own[-1].filename}:{own[-1].lineno})" if own else ""


def _brings(entry: EntryPoint) -> tuple[str, str]:
    if entry.dist is None:
        return "?", "?"
    return entry.dist.name, entry.dist.version


def _misspelt(plugin: Plugin, known: set[str]) -> Iterator[Diagnostic]:
    for name, value in vars(plugin.module).items():
        marked = getattr(value, "forgecore_impl", None)
        looks_so = name.startswith("forgecore_") and inspect.isfunction(value)
        hook = (marked or {}).get("specname") or name
        if marked is not None and hook not in known:
            text = f"{plugin.label}: `{hook}` is a hookimpl of no hookspec"
            yield Diagnostic("unknown-hook", None, text, near(hook, known))
        elif hasattr(value, EACH) and hook not in OF_EACH:
            text = f"{plugin.label}: {hook} is not asked for each resource, so not @each_resource"
            yield Diagnostic("unknown-hook", None, text)
        elif looks_so and marked is None:
            text = f"{plugin.label}: `{name}` lacks @hookimpl"
            yield Diagnostic("unknown-hook", None, text)


def _given_order(plugin: Plugin) -> object:
    return cast("Any", plugin.module).__dict__.get("forgecore_order", Order())


def _in_order(plugins: Sequence[Plugin]) -> tuple[list[Plugin], list[str]]:
    """Sort by the declared order, then by name; return the plugins and a cycle, if there is one."""
    by_name = {plugin.name: plugin for plugin in plugins}
    earlier: dict[str, set[str]] = {name: set() for name in by_name}
    for name, plugin in by_name.items():
        given = _given_order(plugin)
        order = given if isinstance(given, Order) else Order()
        earlier[name] |= {other for other in order.after if other in by_name}
        for other in order.before:
            if other in by_name:
                earlier[other].add(name)
    done: list[str] = []
    while len(done) < len(by_name):
        ready = sorted(name for name in by_name if name not in done and earlier[name] <= set(done))
        if not ready:
            return list(plugins), _cycle(
                {n: earlier[n] - set(done) for n in by_name if n not in done}
            )
        done.append(ready[0])
    return [by_name[name] for name in done], []


def _cycle(earlier: dict[str, set[str]]) -> list[str]:
    path = [min(earlier)]
    while True:
        step = min(earlier[path[-1]])
        if step in path:
            return [*reversed([*path[path.index(step) :], step])]
        path.append(step)
