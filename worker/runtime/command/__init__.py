"""``pycompose-runtime``: the runtime with runc's command line, for whoever drives an OCI runtime.

Theory of operation. There is no shim here: the caller (containerd's shim, conmon, a person) is the
container's parent. ``create`` forks the container's first process, which goes through the same steps
as in a node (``container``), then waits on a socket in the container's directory, its program not yet
executed. ``start`` connects, the process runs the ``startContainer`` hooks and executes; the end of
the connection is success, a message is the reason why not. Everything else is read from the
directory and from the kernel.

    main        arguments, errors, the log
    bundle      config.json, checked (``schema``)
    containers  ROOT/ID: state.json, config.json, start.sock
    lifecycle   create, start, kill, delete
    hooks       programs around the lifecycle
    console     terminals: to a console socket, or between a person and the container
    execute     exec
    reports     state, list, ps, events, spec, features
    resources   what ``update`` takes

Sources: OCI runtime-spec 1.2 (runtime.md, config.md, config-linux.md), runc(8) and its sub-pages.
"""
