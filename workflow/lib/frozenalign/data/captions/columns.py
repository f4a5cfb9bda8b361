"""The columns of a table of captions, or the keys of its records: named by the user, or known names."""

from collections.abc import Mapping, Sequence

from frozenalign.system.errors import UserError, quoted

KNOWN = {
    "image": ("image", "image_name", "file_name", "filename", "image_path", "file_path", "filepath", "file", "path"),
    "caption": ("caption", "comment", "text", "sentence", "title"),
    "image_id": ("image_id", "cocoid", "imgid"),
    "caption_id": ("caption_id", "annotation_id", "sentid", "comment_number", "caption_number"),
}
NEEDED = ("image", "caption")


def chosen(header: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each kind that a header has: the one that the user names, else the first known name.

    columns: name by kind. Known names are compared without case and without spaces around them.
    """
    spelled = {name.strip().lower(): name for name in reversed(header)}
    found = {}
    for kind, names in KNOWN.items():
        if kind in columns:
            named = next((name for name in header if name.strip() == columns[kind].strip()), None)
        else:
            named = next((spelled[name] for name in names if name in spelled), None)
        if named is not None:
            found[kind] = named
    return found


def refuse_missing(header: Sequence[str], columns: Mapping[str, str], where: str) -> None:
    """Refuse a header that lacks a column that is needed, or that the user names.

    where: the file and what it has, for the message.
    """
    if unknown := [kind for kind in columns if kind not in KNOWN]:
        raise UserError(f"`columns` has {quoted(unknown[0])}: it may name {', '.join(KNOWN)}")
    found = chosen(header, columns)
    for kind in dict.fromkeys((*columns, *NEEDED)):
        if kind not in found:
            searched = quoted(columns[kind]) if kind in columns else " or ".join(KNOWN[kind])
            listed = ", ".join(quoted(name) for name in header[:20])
            raise UserError(f"{where} {listed}, none of them {searched}: name that of the {kind} as `columns.{kind}`")
