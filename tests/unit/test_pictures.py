"""Pictures of the page: small, inside it, and none from outside the data folder."""

import base64
import io

import pytest
from PIL import Image

from workflow.lib.pictures import embedded_plot, thumbnail


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    for path in (inside / "photo.png", tmp_path / "secret.png"):
        Image.new("RGB", (800, 400), (200, 30, 30)).save(path)
    (inside / "text.png").write_text("no picture")
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    return inside


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def test_a_thumbnail_is_small_and_keeps_its_shape(folder):
    assert opened(thumbnail(folder, "photo.png")).size == (192, 96)


@pytest.mark.parametrize("name", [None, "", "absent.png", "../secret.png", "/etc/passwd", "link.png", "text.png", "."])
def test_what_is_no_picture_below_the_folder_is_none(folder, name):
    assert thumbnail(folder, name) is None


def test_a_plot_keeps_its_size_and_colours(folder):
    plot = opened(embedded_plot(folder / "photo.png")).convert("RGB")
    assert plot.size == (800, 400)
    assert max(abs(a - b) for a, b in zip(plot.getpixel((5, 5)), (200, 30, 30), strict=True)) <= 8
