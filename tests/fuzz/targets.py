"""All targets: importing the modules that hold them registers them."""

import fuzz.archives
import fuzz.codecs
import fuzz.trees  # noqa: F401
from fuzz.target import TARGETS as TARGETS
