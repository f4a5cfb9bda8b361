"""One set of pairs written in every form that is read, as people and other programs write it."""

import csv
import itertools
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

FORMS: dict[str, Callable[[Path, "Pairs"], "Named"]] = {}
SHARDS = 12


@dataclass(frozen=True)
class Pairs:
    """Images (N, D_image) and texts (N, D_text) in float32 or float16, the image id and the caption of each pair."""

    images: np.ndarray
    texts: np.ndarray
    ids: list[int]
    captions: list[str]

    @property
    def shards(self) -> list["Pairs"]:
        """Return the pairs in twelve parts, which are not equally long."""
        bounds = [0, *(len(self.ids) * (part + 1) // (SHARDS + 1) for part in range(SHARDS - 1)), len(self.ids)]
        parts = [slice(*bound) for bound in itertools.pairwise(bounds)]
        return [Pairs(self.images[part], self.texts[part], self.ids[part], self.captions[part]) for part in parts]

    @property
    def paths(self) -> list[str]:
        """Return COCO's file name of each pair's image."""
        return [f"train2014/COCO_train2014_{image_id:012d}.jpg" for image_id in self.ids]


class Named(NamedTuple):
    """What a configuration says of a form."""

    images: str
    texts: str
    metadata: str | None


def form(function: Callable[[Path, Pairs], Any]) -> Callable[[Path, Pairs], Any]:
    """List a function that writes pairs to a folder and returns what to name in a configuration, relative to it."""

    def written(folder: Path, pairs: Pairs) -> Named:
        folder.mkdir(parents=True, exist_ok=True)
        names = function(folder, pairs)
        return Named(*(name and str(folder / name) for name in names))

    FORMS[function.__name__] = written
    return function


def write_json(folder: Path, pairs: Pairs) -> str:
    content = {"image_ids": pairs.ids, "captions": pairs.captions}
    (folder / "metadata.json").write_text(json.dumps(content))
    return "metadata.json"


def both(folder: Path, pairs: Pairs, suffix: str, write: Callable[[Path, np.ndarray], Any]) -> Named:
    """Write images and texts with one function, and metadata as JSON."""
    write(folder / f"images{suffix}", pairs.images)
    write(folder / f"texts{suffix}", pairs.texts)
    return Named(f"images{suffix}", f"texts{suffix}", write_json(folder, pairs))


@form
def npy(folder, pairs):
    return both(folder, pairs, ".npy", np.save)


@form
def npy_column_after_column(folder, pairs):
    return both(folder, pairs, ".npy", lambda path, rows: np.save(path, np.asfortranarray(rows)))


@form
def npy_of_the_other_byte_order(folder, pairs):
    return both(folder, pairs, ".npy", lambda path, rows: np.save(path, rows.astype(rows.dtype.newbyteorder(">"))))


@form
def npy_shards(folder, pairs):
    for number, part in enumerate(pairs.shards):
        np.save(folder / f"images-{number:05d}-of-{SHARDS:05d}.npy", part.images)
        np.save(folder / f"texts-{number:05d}-of-{SHARDS:05d}.npy", part.texts)
    return f"images-00000-of-{SHARDS:05d}.npy", f"texts-00000-of-{SHARDS:05d}.npy", write_json(folder, pairs)


@form
def npz(folder, pairs):
    np.savez(folder / "rows.npz", images=pairs.images, texts=pairs.texts, other=np.arange(3))
    return "rows.npz::images", "rows.npz::texts", write_json(folder, pairs)


@form
def npz_compressed_with_ids(folder, pairs):
    np.savez_compressed(folder / "images.npz", rows=pairs.images)
    np.savez_compressed(folder / "texts.npz", rows=pairs.texts, image_ids=np.array(pairs.ids))
    return "images.npz", "texts.npz", captions_table(folder, pairs)


def captions_table(folder: Path, pairs: Pairs) -> str:
    """Write captions alone, where another file has the ids."""
    lines = [json.dumps({"caption": caption}) for caption in pairs.captions]
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return "captions.jsonl"


@form
def safetensors(folder, pairs):
    from safetensors.numpy import save_file

    return both(folder, pairs, ".safetensors", lambda path, rows: save_file({"embeddings": rows}, path))


@form
def safetensors_with_several_tensors(folder, pairs):
    from safetensors.torch import save_file

    tensors = {"images": torch.from_numpy(pairs.images), "texts": torch.from_numpy(pairs.texts)}
    save_file(tensors | {"image_ids": torch.tensor(pairs.ids)}, folder / "rows.safetensors", {"made": "here"})
    return "rows.safetensors::images", "rows.safetensors::texts", captions_table(folder, pairs)


def lists(rows: np.ndarray, variable: bool) -> Any:
    import pyarrow as pa

    values = pa.array(rows.ravel())
    if variable:
        return pa.ListArray.from_arrays(pa.array(np.arange(len(rows) + 1) * rows.shape[1], pa.int32()), values)
    return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])


def table(pairs: Pairs, rows: np.ndarray, variable: bool = False) -> Any:
    import pyarrow as pa

    return pa.table({"image_id": pairs.ids, "embedding": lists(rows, variable), "caption": pairs.captions})


def parquet_of(variable: bool) -> Callable[[Path, Pairs], tuple]:
    def write(folder, pairs):
        import pyarrow.parquet as pq

        for name, rows in (("images", pairs.images), ("texts", pairs.texts)):
            pq.write_table(table(pairs, rows, variable), folder / f"{name}.parquet", row_group_size=len(rows) // 3)
        return "images.parquet", "texts.parquet", "texts.parquet"

    return write


@form
def parquet_of_fixed_lists(folder, pairs):
    return parquet_of(False)(folder, pairs)


@form
def parquet_without_other_metadata(folder, pairs):
    return *parquet_of(False)(folder, pairs)[:2], None


@form
def parquet_of_variable_lists(folder, pairs):
    return parquet_of(True)(folder, pairs)


@form
def parquet_with_two_columns(folder, pairs):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"image_id": pairs.ids, "image": lists(pairs.images, False), "text": lists(pairs.texts, False)}
    pq.write_table(pa.table(columns | {"caption": pairs.captions}), folder / "rows.parquet")
    return "rows.parquet::image", "rows.parquet::text", "rows.parquet"


@form
def arrow_stream(folder, pairs):
    import pyarrow as pa

    for name, rows in (("images", pairs.images), ("texts", pairs.texts)):
        content = table(pairs, rows)
        with pa.ipc.new_stream(folder / f"{name}.arrow", content.schema) as writer:
            writer.write_table(content, max_chunksize=7)
    return "images.arrow", "texts.arrow", "texts.arrow"


@form
def feather(folder, pairs):
    from pyarrow.feather import write_feather

    for name, rows in (("images", pairs.images), ("texts", pairs.texts)):
        write_feather(table(pairs, rows), folder / f"{name}.feather")
    return "images.feather", "texts.feather", "texts.feather"


@form
def hdf5(folder, pairs):
    import h5py

    with h5py.File(folder / "rows.h5", "w") as file:
        file.create_dataset("images", data=pairs.images, chunks=(5, pairs.images.shape[1]), compression="gzip")
        file["texts"] = pairs.texts
        file["image_ids"] = pairs.ids
    return "rows.h5::images", "rows.h5::texts", captions_table(folder, pairs)


@form
def hdf5_group(folder, pairs):
    import h5py

    with h5py.File(folder / "rows.hdf5", "w") as file:
        file["train/image/rows"], file["train/text/rows"] = pairs.images, pairs.texts
    return "rows.hdf5::train/image/rows", "rows.hdf5::train/text", write_json(folder, pairs)


def saved(folder: Path, pairs: Pairs, content: Callable[[torch.Tensor], Any]) -> Named:
    return both(folder, pairs, ".pt", lambda path, rows: torch.save(content(torch.from_numpy(rows)), path))


@form
def pt(folder, pairs):
    """The default form under other names."""
    for name, rows in (("image", pairs.images), ("text", pairs.texts)):
        torch.save(torch.from_numpy(rows), folder / f"train2017_{name}_embeddings.pt")
    return "train2017_image_embeddings.pt", "train2017_text_embeddings.pt", write_json(folder, pairs)


@form
def pt_of_a_dict(folder, pairs):
    return saved(folder, pairs, lambda rows: {"embeddings": rows, "model": "siglip", "note": 1.5})


@form
def pt_of_a_dict_with_several_tensors(folder, pairs):
    content = {"images": torch.from_numpy(pairs.images), "texts": torch.from_numpy(pairs.texts)}
    torch.save(content | {"image_ids": torch.tensor(pairs.ids)}, folder / "rows.pt")
    return "rows.pt::images", "rows.pt::texts", captions_table(folder, pairs)


@form
def pt_of_a_list(folder, pairs):
    return saved(folder, pairs, lambda rows: [row.clone() for row in rows])


@form
def pt_of_a_list_of_views(folder, pairs):
    return saved(folder, pairs, lambda rows: list(rows.split(1)))


@form
def pt_with_a_middle_dimension(folder, pairs):
    return saved(folder, pairs, lambda rows: rows[:, None])


@form
def pt_in_float64(folder, pairs):
    return saved(folder, pairs, lambda rows: rows.double())


@form
def pt_of_a_parameter_in_a_dict(folder, pairs):
    return saved(folder, pairs, lambda rows: {"weight": nn.Parameter(rows)})


@form
def pt_that_requires_a_gradient(folder, pairs):
    return saved(folder, pairs, lambda rows: [rows.clone().requires_grad_()][0][:, None])


@form
def pt_of_a_view(folder, pairs):
    return saved(folder, pairs, lambda rows: {"rows": torch.cat([torch.ones(7, rows.shape[1]).to(rows), rows])[7:]})


@form
def pt_saved_on_a_gpu(folder, pairs):
    named = saved(folder, pairs, lambda rows: {"rows": rows})
    for name in named[:2]:
        as_if_saved_on_a_gpu(folder / name)
    return named


def as_if_saved_on_a_gpu(path: Path) -> None:
    """Rewrite an archive with `cuda:0` as the device of its storages."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        records = [(record.filename, archive.read(record)) for record in archive.infolist()]
    length = struct.pack("<L", len("cuda:0"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records:
            on_gpu = content.replace(b"X\x03\x00\x00\x00cpu", b"X" + length + b"cuda:0")
            archive.writestr(name, on_gpu if name.endswith("data.pkl") else content)


@form
def pt_shards(folder, pairs):
    for number, part in enumerate(pairs.shards):
        torch.save(torch.from_numpy(part.images.copy()), folder / f"images_{number}.pt")
        torch.save(torch.from_numpy(part.texts.copy()), folder / f"texts_{number}.pt")
    return "images_*.pt", "texts_*.pt", write_json(folder, pairs)


@form
def clip_retrieval(folder, pairs):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir()
    for number, part in enumerate(pairs.shards):
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", part.images)
        np.save(folder / "text_emb" / f"text_emb_{number}.npy", part.texts)
        content = pa.table({"image_path": part.paths, "caption": part.captions})
        pq.write_table(content, folder / "metadata" / f"metadata_{number}.parquet")
    return ".", ".", "."


@form
def embedding_reader_parquet(folder, pairs):
    import pyarrow.parquet as pq

    for name in ("images", "texts"):
        (folder / name).mkdir()
        for number, part in enumerate(pairs.shards):
            content = table(part, getattr(part, name), variable=True)
            pq.write_table(content, folder / name / f"part_{number}.parquet")
    return "images", "texts", "texts"


@form
def embedding_reader_parquet_npy(folder, pairs):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("images", "texts", "metadata"):
        (folder / name).mkdir()
    for number, part in enumerate(pairs.shards):
        np.save(folder / "images" / f"{number}.npy", part.images)
        np.save(folder / "texts" / f"{number}.npy", part.texts)
        content = pa.table({"image_id": part.ids, "caption": part.captions})
        pq.write_table(content, folder / "metadata" / f"{number}.parquet")
    return "images", "texts", "metadata"


@form
def datacomp(folder, pairs):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, part in enumerate(pairs.shards):
        name = f"{number:08x}a{number}"
        other = np.zeros((len(part.ids), 2), dtype=np.float16)
        np.savez(folder / f"{name}.npz", b32_img=part.images, b32_txt=part.texts, l14_img=other, l14_txt=other)
        ids = [str(image_id) for image_id in part.ids]
        pq.write_table(pa.table({"uid": ids, "text": part.captions}), folder / f"{name}.parquet")
    return ".::b32_img", ".::b32_txt", "."


def separated(suffix: str, separator: str, **options: Any) -> Callable[[Path, Pairs], tuple]:
    def write(folder, pairs):
        with (folder / f"metadata{suffix}").open("w", newline="", **options) as stream:
            writer = csv.writer(stream, delimiter=separator)
            writer.writerow(["caption_id", "image_id", "caption"])
            writer.writerows(zip(range(len(pairs.ids)), pairs.ids, pairs.captions, strict=True))
        named = both(folder, pairs, ".npy", np.save)
        return named._replace(metadata=f"metadata{suffix}")

    return write


@form
def csv_with_a_byte_order_mark(folder, pairs):
    return separated(".csv", ",", encoding="utf-8-sig")(folder, pairs)


@form
def tsv(folder, pairs):
    return separated(".tsv", "\t", encoding="utf-8")(folder, pairs)


@form
def json_lines(folder, pairs):
    lines = [
        json.dumps({"image_id": f"COCO_train2014_{image_id:012d}.jpg", "caption": caption})
        for image_id, caption in zip(pairs.ids, pairs.captions, strict=True)
    ]
    (folder / "metadata.jsonl").write_text("\r\n".join(lines) + "\r\n")
    return both(folder, pairs, ".npy", np.save)._replace(metadata="metadata.jsonl")


@form
def json_of_a_list(folder, pairs):
    rows = [
        {"image_id": str(image_id), "caption": text} for image_id, text in zip(pairs.ids, pairs.captions, strict=True)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    return both(folder, pairs, ".npy", np.save)._replace(metadata="rows.json")
