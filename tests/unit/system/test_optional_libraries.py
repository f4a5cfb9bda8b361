"""A library that is missing or broken is one sentence with the command that installs it."""

import pytest

from frozenalign.system import optional_libraries
from frozenalign.system.errors import UserError
from frozenalign.system.optional_libraries import imported


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'x'"), RuntimeError("operator torchvision::nms does not exist\nand")]
)
def test_a_library_that_cannot_be_imported_is_one_sentence_with_the_command(monkeypatch, error):
    def failing(_):
        raise error

    monkeypatch.setattr(optional_libraries.importlib, "import_module", failing)
    with pytest.raises(UserError, match=r"x cannot be imported \(.*\): run `pip install x`$") as caught:
        imported("x", "pip install x")
    assert "\n" not in str(caught.value)
