"""The numbers of a chart as small tables, made from its Vega-Lite specification."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

MOST_ROWS, MOST_COLUMNS = 24, 8
CHANNELS = ("facet", "row", "column", "detail", "x", "xOffset", "x2", "y", "yOffset", "y2")
CHANNELS += ("color", "shape", "opacity", "size", "text")
PARTS = ("layer", "hconcat", "vconcat", "concat")
CHOICES = (  # of a filter, by a parameter: an equal value, or one next to it
    re.compile(r"^datum\.(\w+) ?===? ?(\w+)$"),
    re.compile(r"^abs\(datum\.(\w+) - (\w+)\) < [\d.]+$"),
)


@dataclass(frozen=True)
class Table:
    """Columns and rows under a caption; `note` says what was left out."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""


@dataclass(frozen=True)
class View:
    """One plot of a chart: its mark, and what it takes from the parts around it."""

    mark: str
    encoding: dict
    data: dict
    transforms: tuple[dict, ...]
    title: str = ""


def views(spec: dict, outer: View | None = None) -> Iterator[View]:
    """The plots of a specification, with encodings, data and transforms of what surrounds them."""
    outer = outer or View("", {}, {}, ())
    channels = {**outer.encoding, **spec.get("encoding", {})}
    channels |= {"facet": spec["facet"]} if "field" in spec.get("facet", {}) else {}
    here = View(
        mark=kind(spec.get("mark", "")),
        encoding=channels,
        data=spec.get("data", outer.data),
        transforms=(*outer.transforms, *spec.get("transform", ())),
        title=title_text(spec) or outer.title,
    )
    inner = [part for name in PARTS for part in spec.get(name, ())]
    inner += [spec["spec"]] if "spec" in spec else []  # of a facet
    for part in inner:
        yield from views(part, here)
    if not inner:
        yield here


def kind(mark: str | dict) -> str:
    """The type of a mark, written as a word or as a dictionary."""
    return mark["type"] if isinstance(mark, dict) else mark


def title_text(spec: dict) -> str:
    """The title of a chart or of a channel in one line; "" if it has none."""
    title = spec.get("title") or ""
    title = title.get("text", "") if isinstance(title, dict) else title
    return " ".join(title) if isinstance(title, list) else title


def tables(spec: dict) -> list[Table]:
    """A table for each set of data that a chart draws, cut to about 24 rows.

    Numbers that the chart computes from its data in the browser are not in it.
    """
    groups: list[list[View]] = []
    for view in views(spec):
        same = next((group for group in groups if group[0].data == view.data), None)
        if same is None:
            groups.append([view])
        else:
            same.append(view)
    found = (_table(group, spec) for group in groups)
    return [table for table in found if table is not None]


def _table(group: Sequence[View], spec: dict) -> Table | None:
    rows, caption = _shown_first(_rows(group[0].data, spec), group, spec)
    names = _fields(group, rows)
    data = pd.DataFrame(rows, columns=list(names)).drop_duplicates(ignore_index=True)
    if len(names) < 2 and (len(data) < 2 or not names or not pd.api.types.is_numeric_dtype(data[next(iter(names))])):
        return None  # one number, or names without one
    caption = ", ".join(filter(None, [group[0].title, caption]))
    if len(data) > MOST_ROWS:
        for made in (_heat_map, _lines):
            if (table := made(data, names, group, caption)) is not None:
                return table
    return _thinned(data, list(names.values()), caption)


def _rows(data: dict, spec: dict) -> list[dict]:
    values = data.get("values", spec.get("datasets", {}).get(data.get("name"), ()))
    return [row for row in values if isinstance(row, dict)] if isinstance(values, list) else []


def _shown_first(rows: list[dict], group: Sequence[View], spec: dict) -> tuple[list[dict], str]:
    """The rows that a menu or slider lets through in every plot before it is moved, and what it says."""
    first = {param["name"]: param.get("value") for param in spec.get("params", ())}
    said = []
    for transform in group[0].transforms:
        found = next(filter(None, (choice.match(str(transform.get("filter", ""))) for choice in CHOICES)), None)
        if found and found[2] in first and all(transform in view.transforms for view in group):
            rows = [row for row in rows if _chosen(row.get(found[1]), first[found[2]])]
            said.append(f"{found[1]} {first[found[2]]}")
    return rows, ", ".join(said)


def _chosen(value: object, first: object) -> bool:
    return value == first or (isinstance(value, float) and math.isclose(value, first))


def _fields(group: Sequence[View], rows: list[dict]) -> dict[str, str]:
    """Drawn fields of the data -> heads of their columns, in the order of the channels."""
    nested = {name for row in rows for name in row if isinstance(row[name], list | dict)}
    there = {name for row in rows for name in row} - nested
    names: dict[str, str] = {}
    for channel in CHANNELS:
        for view in group:
            definition = view.encoding.get(channel)
            field = definition.get("field") if isinstance(definition, dict) else None
            if isinstance(field, str) and field in there and not names.get(field):
                names[field] = title_text(definition) or names.get(field) or field.replace("_", " ")
    return names


def _heat_map(data: pd.DataFrame, names: dict[str, str], group: Sequence[View], caption: str) -> Table | None:
    """For tiles: for each row the largest value and where it lies."""
    tiles = next((view.encoding for view in group if view.mark == "rect" and "color" in view.encoding), {})
    across, down, shade = (str(tiles.get(channel, {}).get("field")) for channel in ("x", "y", "color"))
    if not {across, down, shade} <= set(data.columns) or not pd.api.types.is_numeric_dtype(data[shade]):
        return None
    data = data.dropna(subset=[shade])
    most = data.loc[data.groupby(down, sort=False)[shade].idxmax(), [down, across, shade]]
    heads = [names[down], f"{names[across]} of the largest", f"largest {names[shade]}"]
    return _thinned(most, heads, caption)


def _lines(data: pd.DataFrame, names: dict[str, str], group: Sequence[View], caption: str) -> Table | None:
    """For lines and points: a column a line, at some places along the x axis."""
    encoding = next((view.encoding for view in group if view.mark in ("line", "point", "circle", "area")), {})
    x, y = (str(encoding.get(channel, {}).get("field")) for channel in ("x", "y"))
    if x == y or not {x, y} <= set(data.columns) or not pd.api.types.is_numeric_dtype(data[y]):
        return None
    by = [name for name in data.columns if name not in (x, y) and not data[name].is_unique][:2]
    lines = data.pivot_table(index=x, columns=by, values=y, aggfunc="mean", sort=False) if by else None
    if lines is None or lines.shape[1] > MOST_COLUMNS or len(lines) > len(data) * 0.75:
        return None
    lines = lines.sort_index() if pd.api.types.is_numeric_dtype(lines.index) else lines  # names keep their order
    heads = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in lines.columns]
    caption = f"{caption}: {names[y]}" if caption else names[y]
    return _thinned(lines.reset_index(), [names[x], *heads], caption)


def _thinned(data: pd.DataFrame, heads: Sequence[str], caption: str) -> Table:
    kept = spread(range(len(data)), MOST_ROWS)
    note = f"{len(kept)} of {len(data)} rows" if len(kept) < len(data) else ""
    return Table(caption, list(heads), data.iloc[kept].to_numpy(dtype=object).tolist(), note)


def spread(values: Sequence, number: int) -> list:
    """At most `number` of the values, evenly spaced, the first and the last among them."""
    if len(values) <= number:
        return list(values)
    return [values[round(i * (len(values) - 1) / (number - 1))] for i in range(number)]
