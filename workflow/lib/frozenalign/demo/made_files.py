"""The places in a folder at which the demo's pictures and captions lie."""

from frozenalign.data.made_files import Places

PICTURES = "images"
CAPTIONS = "captions.json"
DEMO = Places("demo_data", (CAPTIONS,), subfolder=PICTURES)
