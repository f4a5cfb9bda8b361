"""The places in a folder at which the files of an encoded set lie."""

from frozenalign.data.encoding import ENCODING
from frozenalign.data.made_files import ROW_FILES, Places

# Earlier versions of the demo wrote rows themselves.
ENCODED = Places("merge_encodings", (*ROW_FILES, ENCODING), earlier=("made_by_demo_data.json",))
