"""The registry of heads: tower classes by the name that `model.type` gives."""

from frozenalign.configuration.registrations import heads
from frozenalign.configuration.registry import Registry

HEADS = Registry("head", heads)
register_head = HEADS.register
