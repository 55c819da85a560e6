"""Repositories that break exactly one rule each, with right hashes and a right signature everywhere else.

`KINDS` maps the name of a defect to the rule that must report it and to the function that plants it in a
sound repository of `crooked.py`. Importing the modules of defects registers them.
"""

import defects_tree  # noqa: F401
import defects_values  # noqa: F401
from defect_kinds import KINDS as KINDS
