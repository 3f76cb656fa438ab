"""Writes the reference pages from the code itself: configuration.md, metrics.md and log-events.md beside this file.

Run `python -m docs.generate` in the root of the repository after a change of a key, a metric or a log call;
tests/test_docs.py says when that was forgotten. What the code does not say in words is in `meanings.toml`.
"""

import ast
import inspect
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect as shapes
from prometheus_client.metrics import MetricWrapperBase

from docs.log_calls import find_log_events
from protocol.messages import TriggerKind
from runnerd.config.model import Config
from runnerd.executor.wanted import ENDED, IntentState
from runnerd.services.metrics import Metrics
from runnerd.store.calls import JobOutcome
from runnerd.supervisor.machine import Phase

DOCS: Final = Path(__file__).resolve().parent
MEANINGS: Final[Mapping[str, Any]] = tomllib.loads((DOCS / "meanings.toml").read_text("utf-8"))
HEADER: Final = (
    "<!-- Written by `python -m docs.generate` from {source}. Do not edit: change that, and run it again. -->"
)

# --- configuration ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one table, in words."""

    name: str
    type: str
    default: str
    bound: str
    meaning: str


def find_tables() -> list[tuple[type, list[Key]]]:
    """Every table of the configuration file with its keys, each table before those inside it."""
    return list(_tables_from(Config).items())


def _tables_from(table: type) -> dict[type, list[Key]]:
    shape = shapes.type_info(table)
    assert isinstance(shape, shapes.StructType)
    documented = _attribute_docstrings(table)
    fields = [field for field in shape.fields if f"{table.__name__}.{field.name}" not in MEANINGS["not_in_the_file"]]
    found = {table: [_key(table, field, documented) for field in fields]}
    for field in fields:
        for nested in _structs(field.type):
            found |= _tables_from(nested)
    return found


def undocumented_keys() -> Iterator[str]:
    """Keys, as `Table.key`, for which neither a docstring in the code nor `meanings.toml` has a meaning."""
    for table, keys in find_tables():
        yield from (f"{table.__name__}.{key.name}" for key in keys if not key.meaning)


def render_configuration() -> str:
    """The page about runnerd.toml."""
    parts = [
        HEADER.format(source="runnerd/config/model.py"),
        "# Configuration",
        MEANINGS["page"]["configuration"].strip(),
    ]
    for table, keys in find_tables():
        title, text = _title(table)
        rows = [(f"`{key.name}`", key.type, key.default, key.bound, key.meaning) for key in keys]
        parts += [f"## {title}", text, _table(("key", "type", "default", "bound", "meaning"), rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _key(table: type, field: shapes.Field, documented: Mapping[str, str]) -> Key:
    supplement = MEANINGS["key"].get(f"{table.__name__}.{field.name}", {})
    return Key(
        name=field.name,
        type=_type(field.type),
        default=supplement.get("default") or _default(field),
        bound=_bound(field.type),
        meaning=documented.get(field.name) or supplement.get("meaning", ""),
    )


def _attribute_docstrings(table: type) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(table)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        match before, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found


def _structs(shape: shapes.Type) -> Iterator[type]:
    match shape:
        case shapes.StructType(cls=cls):
            yield cls
        case shapes.UnionType(types=types):
            for member in types:
                yield from _structs(member)
        case shapes.DictType(value_type=item) | shapes.ListType(item_type=item) | shapes.VarTupleType(item_type=item):
            yield from _structs(item)
        case _:
            pass


def _title(table: type) -> tuple[str, str]:
    """The heading, and the docstring's first paragraph; a docstring that begins with the table's `[name]` gives it."""
    text = MEANINGS["table"].get(table.__name__) or " ".join((table.__doc__ or "").split())
    tag = getattr(table, "__struct_config__", None) and table.__struct_config__.tag  # type: ignore[attr-defined]
    if text.startswith("`["):
        name, _, rest = text[1:].partition("`")
        rest = rest.lstrip(":. ")
        return f"`{name}`", rest[:1].upper() + rest[1:]
    if tag:
        return f'A trigger of kind `"{tag}"`', text
    assert table is Config, f"say in meanings.toml where {table.__name__} stands: `[…]`: …"
    return "The top of the file", text


def _type(shape: shapes.Type) -> str:
    match shape:
        case shapes.BoolType():
            return "boolean"
        case shapes.IntType():
            return "integer"
        case shapes.FloatType() | shapes.DecimalType():
            return "number"
        case shapes.StrType():
            return "text"
        case shapes.CustomType(cls=cls) if cls is Path:
            return "path"
        case shapes.LiteralType(values=values):
            return " or ".join(f'`"{value}"`' for value in values)
        case shapes.EnumType(cls=cls):
            return " or ".join(f'`"{member.value}"`' for member in cls)
        case shapes.StructType():
            return "table"
        case shapes.DictType(value_type=item):
            return "tables by name" if any(_structs(item)) else f"table of {_type(item)}"
        case shapes.ListType(item_type=item) | shapes.VarTupleType(item_type=item):
            return "list of tables" if any(_structs(item)) else f"list of {_type(item)}"
        case shapes.UnionType(types=types):
            return _union([member for member in types if not isinstance(member, shapes.NoneType)])
        case _:
            raise TypeError(f"no words for {shape}: add them here")


def _union(members: list[shapes.Type]) -> str:
    if len(members) == 1:
        return _type(members[0])
    nesting = {shapes.ListType: "lists of these", shapes.DictType: "tables of these"}
    plain = [_type(member) for member in members if type(member) not in nesting]
    return ", ".join([*plain, *(words for kind, words in nesting.items() if any(type(m) is kind for m in members))])


def _default(field: shapes.Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    match value:
        case None:
            return "none"
        case msgspec.Struct():
            return "its defaults"
        case bool():
            return f"`{str(value).lower()}`"
        case tuple() | list() | dict() if not value:
            return "empty"
        case str():
            return f'`"{value}"`'
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def _bound(shape: shapes.Type) -> str:
    members = shape.types if isinstance(shape, shapes.UnionType) else (shape,)
    words = {
        "ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}", "pattern": "`{}`",
        "min_length": "length at least {}", "max_length": "length at most {}",
    }  # fmt: skip
    found = [
        text.format(str(limit).removesuffix(".0"))
        for member in members
        for name, text in words.items()
        if (limit := getattr(member, name, None)) is not None
    ]
    return ", ".join(found)


# --- metrics ---------------------------------------------------------------------------------------------------------


def find_metrics() -> list[MetricWrapperBase]:
    """The metrics of a live registry, in the order in which they were made."""
    return [value for value in vars(Metrics(Phase)).values() if isinstance(value, MetricWrapperBase)]


def render_metrics() -> str:
    """The page about /metrics."""
    rows = []
    for metric in find_metrics():
        exposed = f"{metric._name}_total" if metric._type == "counter" else metric._name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        supplement = MEANINGS["metric"].get(metric._name, "")
        rows.append((f"`{exposed}`", str(metric._type), labels, f"{metric._documentation}. {supplement}".strip()))
    values: dict[str, Iterable[str]] = {
        "`trigger`": TriggerKind,
        "`outcome`": JobOutcome,
        "`state` of a worker": Phase,
        "`state` of an open intent": [state for state in IntentState if state not in ENDED],
        "`state` of an ended intent": [state for state in IntentState if state in ENDED],
    }
    labels_page = _table(
        ("label", "values"), [(name, ", ".join(f"`{v}`" for v in kinds)) for name, kinds in values.items()]
    )
    head = [HEADER.format(source="runnerd/services/metrics.py"), "# Metrics", MEANINGS["page"]["metrics"].strip()]
    return "\n\n".join([*head, _table(("name", "type", "labels", "meaning"), rows), "## Labels", labels_page]) + "\n"


# --- log events ------------------------------------------------------------------------------------------------------


def render_log_events() -> str:
    """The page about log records."""
    rows = [
        (
            f"`{e.action}`",
            " or ".join(e.levels),
            ", ".join(f"`{f}`" for f in e.fields),
            e.message,
            f"[{e.file}](../{e.file})",
        )
        for e in find_log_events()
    ]
    head = [HEADER.format(source="runnerd/**/*.py"), "# Log events", MEANINGS["page"]["log_events"].strip()]
    return "\n\n".join([*head, _table(("action", "level", "fields", "message", "file"), rows)]) + "\n"


# --- all of them -----------------------------------------------------------------------------------------------------


def render() -> dict[Path, str]:
    """Every generated page, by its file."""
    return {
        DOCS / "configuration.md": render_configuration(),
        DOCS / "metrics.md": render_metrics(),
        DOCS / "log-events.md": render_log_events(),
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    for page, text in render().items():
        page.write_text(text, "utf-8")
