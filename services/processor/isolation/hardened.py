"""Protect the importing process from other processes of the same user.

The fork server preloads this module. It starts with the pod's environment, and all workers are
forked from it.
"""

from services.processor.isolation.kernel import set_dumpable

set_dumpable(dumpable=False)
