"""HDF5: one data set of rows, or one data set for each image, named by its id."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.data.formats.registry import INSTALL, register_row_format
from frozenalign.data.formats.stored_rows import (
    StoredRows,
    as_stored,
    chosen,
    id_name,
    ids_as_text,
    matrix_shape,
    number_format,
    rows_at_once,
)
from frozenalign.system.errors import UserError
from frozenalign.system.optional_libraries import imported

# So many data sets of a file are looked at to tell one for each image from others.
LOOKED_AT = 16


@register_row_format(".hdf5")
@register_row_format(".h5")
def read_hdf5(path: Path, name: str | None) -> StoredRows:
    """A data set (N, D), or one (D,) for each image id; `PATH::NAME` for one of several, or for a group."""
    with _opened(path) as file:
        group, inside = file, ""
        if name is not None and _kind(file, path, name) == "group":
            group, inside, name = file[name], name, None
        names = list(group)
        if name is None and _is_one_for_each_image(group, path, names):
            return _rows_by_id(path, inside, names, group[names[0]])
        members = {each: group[each] for each in names if _kind(group, path, each) == "data set"}
        if name is not None:
            members |= {name: group[name]} if _kind(group, path, name) == "data set" else {}
        taken = chosen({each: member.shape for each, member in members.items()}, name, path, "data set")
        return _matrix(path, f"{inside}/{taken}", members[taken], id_name([*_vectors(members)]), inside)


def _matrix(path: Path, name: str, member: Any, ids: str | None, inside: str) -> StoredRows:
    where = f"{path}: {name.lstrip('/')}"
    number = number_format(member.dtype, where)
    rows, width, notes = matrix_shape(member.shape, where)
    step = rows_at_once(width, member.dtype)
    if member.chunks:
        # A block that is compressed as a whole is read once.
        step = max(step // member.chunks[0], 1) * member.chunks[0]
    found = functools.partial(_ids, path, f"{inside}/{ids}") if ids else None
    return StoredRows(path, rows, width, number, functools.partial(_chunks, path, name, width, step), found, notes)


def _chunks(path: Path, name: str, width: int, step: int) -> Iterator[np.ndarray]:
    with _opened(path) as file:
        member = file[name]
        for start in range(0, len(member), step):
            yield as_stored(member[start : start + step].reshape(-1, width))


def _ids(path: Path, name: str) -> list[str]:
    with _opened(path) as file:
        member = file[name]
        values = (member.asstr() if member.dtype.kind in "OS" else member)[:].tolist()
    return ids_as_text(values, f"{path}: {name.lstrip('/')}")


def _rows_by_id(path: Path, inside: str, names: list[str], first: Any) -> StoredRows:
    where = f"{path}: {names[0]}"
    number, width = number_format(first.dtype, where), first.shape[-1]
    rows, width, _ = matrix_shape((len(names), width), where)
    by_number = sorted(names, key=int) if all(each.isdecimal() for each in names) else sorted(names)
    chunks = functools.partial(_chunks_by_id, path, inside, by_number, width, np.dtype(number))
    note = f"{path} has a data set for each of {rows} images: each is a row"
    return StoredRows(path, rows, width, number, chunks, lambda: by_number, (note,))


def _chunks_by_id(path: Path, inside: str, names: list[str], width: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    step = rows_at_once(width, dtype)
    with _opened(path) as file:
        group = file[inside] if inside else file
        for start in range(0, len(names), step):
            yield np.stack([_row(group, path, name, width, dtype) for name in names[start : start + step]])


def _row(group: Mapping[str, Any], path: Path, name: str, width: int, dtype: np.dtype) -> np.ndarray:
    is_row = _kind(group, path, name) == "data set" and group[name].shape in ((width,), (1, width))
    if not is_row or group[name].dtype.newbyteorder("=") != dtype:
        raise UserError(
            f"{path}: the entry of image {name!r} is not a row of {width} {dtype.name} numbers like the first: write "
            "all images alike"
        )
    return as_stored(group[name][:].reshape(width))


def _is_one_for_each_image(group: Any, path: Path, names: list[str]) -> bool:
    """Return whether every data set is a row; several rows for an image are refused."""
    kinds = [_kind(group, path, name) for name in names[:LOOKED_AT]]
    if len(names) < 2 or any(kind != "data set" for kind in kinds):
        return False
    some = [group[name] for name in names[:LOOKED_AT]]
    if any(member.dtype.kind != "f" for member in some):
        return False
    if all(name.isdecimal() for name in names) and some[0].ndim > 1 and some[0].shape[0] > 1:
        raise UserError(
            f"{path} has a data set of shape {some[0].shape} for image {names[0]}, which is more than one row: write "
            "one row for each image, for example the mean"
        )
    return all(member.ndim == 1 or member.shape[:1] == (1,) for member in some)


def _vectors(members: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, member in members.items() if member.ndim == 1)


def _kind(group: Any, path: Path, name: str) -> str:
    """Return whether a name is a data set, a group or nothing; what leads to another file is refused."""
    hdf5, member = imported("h5py", INSTALL, path), group
    for step in name.strip("/").split("/"):
        if not isinstance(member, hdf5.Group) or step not in member:
            return "nothing"
        if isinstance(member.get(step, getlink=True), hdf5.ExternalLink):
            raise UserError(f"{path}: {name!r} leads to another file: copy its numbers into this one")
        member = member[step]
    if not isinstance(member, hdf5.Dataset):
        return "group"
    if member.is_virtual or member.external:
        raise UserError(f"{path}: {name!r} takes its numbers from other files: copy them into this one")
    return "data set"


def _opened(path: Path) -> Any:
    return imported("h5py", INSTALL, path).File(path, "r")
