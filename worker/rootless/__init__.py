"""A node of an ordinary user: what stands between it and the machine.

The node's programs run as they do for root, but in a user, mount and network namespace of the user's, in which they are
root. Around them::

    launch (outside) ── opens ports of the machine for the agent (``doors``)
    └── supervisor, manager, agent, zygote (inside)      die with it; a new launch enters the same namespaces
    keeper (inside)     a sleeping process that keeps the namespaces (``namespaces``), while there are containers
    pasta or slirp4netns  the namespaces' way out of the machine (``way_out``)
    shims, containers (inside)

Sources: user_namespaces(7), newuidmap(1), pasta(1), slirp4netns(1); docs/decisions/0012.
"""
