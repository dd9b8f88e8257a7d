"""Imported by the server that workers are forked from, and by nothing else: it then ends with the process that started it.

Workers end with the server, so whatever kills that process leaves none of them.
"""

import os

from nas.process_start import die_with_parent

die_with_parent(os.getppid())
