"""What tests of encodings share."""

from tests.unit.encoders.noting import encoder, photographs  # noqa: F401
