"""Memory: what builds made of what, so that the next one makes anew only what has changed.

`remembered` says whether there is anything to do; this says what there is to do. A resource is
settled when it, the resources around it and all that is not of the schema are as they were:
then its files stand on disk as a build would write them, and nobody is asked about it.

A memory can be deleted at any time. It is read from a file in the project, which somebody else
may have put there: so it names nothing but a few types of data, and attrs classes and enums of
the tool and of the open plugins, which are filled without a call of theirs.
"""

import hashlib
import io
import os
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

import attrs
from attrs import evolve, field, frozen

from forgecore.ir import IR, NO_DEFAULT, Field, FieldType, Resource, related_names
from forgecore.remembered import hashed, write_cached
from forgecore.source import Document, KeyPath, SourceFile

_FILE: Final = "memory"
_VERSION: Final = 3
_SUM: Final = 32
_DATA: Final = frozenset(
    {
        ("builtins", "frozenset"),
        ("builtins", "set"),
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
    }
)
_OWN: Final = "forgecore"
Written = Sequence[tuple[object, KeyPath]]
"""The options of a resource, with where each was written."""


@frozen(kw_only=True)
class KeptFile:
    """A generated file that stands on disk; `stat` is how it is known to be the same."""

    path: str
    owner: str
    contributors: tuple[str, ...]
    digest: str
    stat: tuple[int, int, int]


@frozen(kw_only=True)
class Settled:
    """What a resource came to. `key` is of its inputs, `around` of fragments from elsewhere.

    `declared` are the slots of its files, `targets` those of its fragments, `needed` the targets
    that must be declared by somebody, and `filled` those that are filled whatever else is.
    `is_clean`: its checks found nothing.
    """

    key: str
    around: str
    files: tuple[KeptFile, ...]
    scaffolds: tuple[tuple[str, str], ...]
    declared: frozenset[str]
    targets: frozenset[str]
    needed: frozenset[str]
    filled: frozenset[str]
    is_clean: bool


@frozen(kw_only=True)
class _State:
    parts: dict[str, str] = field(factory=dict[str, str])
    digests: dict[str, str] = field(factory=dict[str, str])
    schema: dict[str, tuple[str, bytes]] = field(factory=dict[str, tuple[str, bytes]])
    settled: dict[str, Settled] = field(factory=dict[str, Settled])


class Memory:
    """What a build can go by. An empty one lets everything be made."""

    def __init__(self, state: _State | None = None) -> None:
        self._state = state or _State()
        self._before = self._state
        self._resources: dict[str, tuple[str, Resource, Written]] = {}
        self._parts: Mapping[str, str] = {}
        self._schema: dict[str, str] = {}
        self._keys: Mapping[str, str] = {}
        self._packages = frozenset[str]()

    @classmethod
    def load(cls, project: Path) -> "Memory":
        """Return what is remembered of a project: nothing if that cannot be read."""
        try:
            read = (project / ".forge" / "cache" / _FILE).read_bytes()
            if hashlib.sha256(read[_SUM:]).digest() != read[:_SUM]:
                return cls()
            version, state = _Unpickler(io.BytesIO(read[_SUM:]), None, {}, frozenset()).load()
        except Exception:  # noqa: BLE001 -- whatever is wrong with it, it can be made anew
            return cls()
        return cls(state if version == _VERSION and isinstance(state, _State) else None)

    def save(self, project: Path) -> None:
        """Keep it for the next process; where it cannot be written, the next one works more."""
        schema = dict(self._state.schema)
        for path, (digest, resource, written) in self._resources.items():
            if schema.get(path, ("",))[0] != digest and (data := _pickled((resource, written))):
                schema[path] = (digest, data)
        present = {path: known for path, known in schema.items() if path in self._schema}
        state = evolve(self._state, schema=present)
        if (data := _pickled((_VERSION, state))) is not None:
            # A file that was cut off or changed must not be taken for one that was written.
            whole = hashlib.sha256(data).digest() + data
            write_cached(project / ".forge" / "cache" / _FILE, whole)

    def forget_files(self) -> None:
        """Begin to look at the files of the schema anew."""
        self._schema = {}

    def is_toml(self, source: SourceFile) -> bool:
        """Note a file of the schema; return whether it has been read before as it is now."""
        digest = hashlib.sha256(source.text.encode()).hexdigest()
        self._schema[source.path] = digest
        found = self._resources.get(source.path) or self._state.schema.get(source.path)
        return found is not None and found[0] == digest

    def begin(self, parts: Mapping[str, str], packages: frozenset[str]) -> None:
        """Say what this build is made by, beside the schema: all else is as `parts` say.

        `packages` are those of the plugins, whose options a resource may hold.
        """
        self._parts = parts
        self._packages = packages
        self._before = self._state
        if self._state.parts != parts:
            self._resources.clear()
            self._state = evolve(self._state, schema={}, settled={})

    def resource(
        self, document: Document, types: Mapping[str, FieldType]
    ) -> tuple[Resource, Written] | None:
        """Return what a file of the schema became, if it says what it said then."""
        path = document.source.path
        known = self._resources.get(path)
        if known is None and path in self._state.schema:
            digest, data = self._state.schema[path]
            if digest == self._schema.get(path):
                try:
                    resource, written = _Unpickler(
                        io.BytesIO(data), document, types, self._packages
                    ).load()
                except Exception:  # noqa: BLE001 -- as in load
                    return None
                known = self._resources[path] = (digest, resource, written)
        if known is None or known[0] != self._schema.get(path):
            return None
        return known[1:]

    def keep_resource(self, document: Document, resource: Resource, written: Written) -> None:
        """Remember what a file of the schema became, with its options and their places."""
        path = document.source.path
        self._resources[path] = (self._schema.get(path, ""), resource, written)

    def look_at(self, ir: IR, structured: Iterable[Resource]) -> None:
        """Take the IR as this build's; `structured` are the resources before plugins changed any.

        A resource is of its file, and of the files of those that it refers to or that refer to it.
        """
        untouched = {id(resource) for resource in structured}
        own = {
            one.name: self._schema.get(one.origin.document.source.path, "")
            if id(one) in untouched
            else fingerprint(one)
            for one in ir.resources
        }
        self._keys = {
            name: hashed([own[name], *(own[other] for other in others)])
            for name, others in related_names(ir).items()
        }

    def settled(self, resource: str) -> Settled | None:
        """Return what a resource came to, if its inputs are the same."""
        found = self._state.settled.get(resource)
        return found if found is not None and found.key == self._keys.get(resource) else None

    def key(self, resource: str) -> str:
        """Return the key of a resource's inputs."""
        return self._keys[resource]

    def settle(self, settled: Mapping[str, Settled]) -> None:
        """Remember what this build, which has just been published, came to."""
        self._state = evolve(
            self._state,
            parts=dict(self._parts),
            digests=dict(self._schema),
            settled=dict(settled),
        )

    def changes(self, files: Iterable[str] | None = None) -> list[str] | None:
        """Return what is not as it was for the build before this one; None if none is known.

        `files` of the schema: only those count, and what is not of the schema.
        """
        before = self._before
        if not before.parts:
            return None
        old, new = before.digests, self._schema
        counted = sorted(old.keys() | new.keys() if files is None else files)
        parts = sorted(before.parts.keys() | self._parts.keys())
        return [
            *(path for path in counted if old.get(path) != new.get(path)),
            *(name for name in parts if before.parts.get(name) != self._parts.get(name)),
        ]


def is_on_disk(folder: Path, files: Iterable[KeptFile]) -> bool:
    """Return whether files, by path below `folder`, are as they were written."""
    # Thousands of files: pathlib would join their paths slowly.
    return all(stat_of(f"{folder}/{file.path}") == file.stat != NOWHERE for file in files)


NOWHERE: Final = (0, 0, 0)
"""What `stat_of` returns where there is no file."""


def stat_of(path: str | Path) -> tuple[int, int, int]:
    """Return the size, time of change and inode of a file, or NOWHERE."""
    try:
        found = os.lstat(path)
    except OSError:
        return NOWHERE
    return (found.st_size, found.st_mtime_ns, found.st_ino)


def fingerprint(value: object) -> str:
    """Return what tells an artefact or a part of the IR from others.

    Things that are equal may have two, and one that holds more than data has another each time:
    then something is made that need not be.
    """
    data = _pickled(value)
    return hashlib.sha256(os.urandom(16) if data is None else data).hexdigest()


def _pickled(value: object) -> bytes | None:
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, protocol=5).dump(value)
    except Exception:  # noqa: BLE001 -- a plugin's class may refuse in any way
        return None
    return buffer.getvalue()


@lru_cache(maxsize=1024)
def _names(cls: type) -> tuple[str, ...]:
    return tuple(attribute.name for attribute in attrs.fields(cast("Any", cls)))


class _Rebuild:
    """What a pickle calls for an object. No class is handed out, and nothing of it can be set."""

    __slots__ = ("_packages",)
    _packages: frozenset[str]

    def __init__(self, packages: frozenset[str]) -> None:
        object.__setattr__(self, "_packages", packages)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __call__(self, module: str, name: str, values: object) -> object:
        cls: Any = _class_of(module, name, self._packages)
        if cls is UUID or issubclass(cls, Enum):
            return cls(values)
        made = object.__new__(cls)
        given = cast("tuple[object, ...]", values)
        for attribute, value in zip(_names(cls), given, strict=True):
            object.__setattr__(made, attribute, value)
        if issubclass(cls, Resource | Field):
            # Options are found by their class, and no class stands in a pickle.
            options = {type(one): one for one in made.plugin_options}
            object.__setattr__(made, "plugin_options", options)
        return made


REBUILD: Final = _Rebuild(frozenset())
"""What stands in a pickle; the one who reads it has one of its own."""


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> tuple[str, ...] | None:  # noqa: ANN401
        if obj is NO_DEFAULT:
            return ("no default",)
        if isinstance(obj, Document):
            return ("document", obj.source.path)
        if isinstance(obj, FieldType):
            return ("type", obj.name)
        return None

    def reducer_override(self, obj: Any) -> Any:  # noqa: ANN401
        if obj is REBUILD:
            return "REBUILD"
        cls: Any = type(obj)
        name = (cls.__module__, cls.__qualname__)
        if isinstance(obj, UUID):
            return (REBUILD, (*name, obj.hex))
        if isinstance(obj, Enum):
            return (REBUILD, (*name, obj.value))
        if isinstance(obj, Resource | Field):
            options: Any = tuple(obj.plugin_options.values())
            obj = evolve(obj, plugin_options=options)
        if attrs.has(cls):
            return (REBUILD, (*name, tuple(getattr(obj, one) for one in _names(cls))))
        return NotImplemented


@lru_cache(maxsize=1024)
def _class_of(module: str, name: str, packages: frozenset[str]) -> type:
    # Only of what is imported already, and there only what holds data.
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    is_ours = module.partition(".")[0] in {_OWN, *packages}
    is_data = isinstance(found, type) and (attrs.has(found) or issubclass(found, Enum))
    if found is not UUID and not (is_ours and is_data):
        raise pickle.UnpicklingError(f"{module}.{name} is no data")
    return cast("type", found)


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        file: io.BytesIO,
        document: Document | None,
        types: Mapping[str, FieldType],
        packages: frozenset[str],
    ) -> None:
        super().__init__(file)
        self._document = document
        self._types = types
        self._rebuild = _Rebuild(packages)

    def persistent_load(self, pid: Any) -> object:  # noqa: ANN401
        match pid:
            case ("no default",):
                return NO_DEFAULT
            case ("document", _):
                return self._document
            case ("type", name):
                return self._types[name]
            case _:
                raise pickle.UnpicklingError(f"{pid} is no data")

    def find_class(self, module_name: str, global_name: str) -> Any:  # noqa: ANN401
        if (module_name, global_name) == (__name__, "REBUILD"):
            return self._rebuild
        if (module_name, global_name) not in _DATA:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is no data")
        return getattr(sys.modules[module_name], global_name)
