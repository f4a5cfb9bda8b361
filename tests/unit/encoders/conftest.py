"""Tiny models of the classes of the large encoders, written once; a network that answers nobody."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.encoders import tiny_models
from tests.unit.encoders.noting import encoder, photographs  # noqa: F401


@pytest.fixture(autouse=True)
def no_network(monkeypatch) -> None:
    """No encoder may ask the network for anything."""

    def refused(*_, **__):
        raise AssertionError("an encoder tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that returns the folder of a model of tiny_models, written at its first call."""
    pytest.importorskip("transformers", reason="envs/requirements-encode.txt is not installed")
    written: dict[tuple, Path] = {}

    def folder(name: str, *arguments: int) -> Path:
        if (name, *arguments) not in written:
            target = tmp_path_factory.mktemp(name)
            written[name, *arguments] = getattr(tiny_models, name)(target, *arguments)
        return written[name, *arguments]

    return folder
