"""Importing this module keeps processes of the same user out of the importing process.

The fork server preloads it: it starts with the pod's environment, and all workers are forked from
it.
"""

from services.processor.isolation.kernel import set_dumpable

set_dumpable(dumpable=False)
