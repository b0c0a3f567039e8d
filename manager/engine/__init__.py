"""The control loops' engine: looks at what changed, asks the pure cores, writes what they decide.

One pass takes all services that changed since the last one, lets the orchestrators decide, places and addresses
tasks, and writes creation and assignment together, each object under a comparison with the version that was
read. A conflict (a worker's status came in between) makes the next pass look again. Nothing is kept only in memory:
a manager killed at any moment goes on from the store.

==============  ========================================================
``loop``        the shell: waits for changes, writes
``controller``  the core: which services are dirty, what to write
``overlay``     what one pass changes, over the cache
``service``     one service: orchestrators' actions become changes
``endpoint``    a service's virtual addresses and published ports
``placement``   waiting tasks get node, addresses, ports, or a reason
==============  ========================================================
"""

from pycompose.manager.engine.controller import Controller, Write
from pycompose.manager.engine.loop import Engine
from pycompose.manager.engine.overlay import Pass, timestamp
from pycompose.manager.engine.placement import volume_homes
from pycompose.manager.engine.service import decide

__all__ = ["Controller", "Engine", "Pass", "Write", "decide", "timestamp", "volume_homes"]
