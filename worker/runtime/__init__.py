"""The container runtime: from an OCI ``config.json`` to a running, logged, watched process.

Who is who (DESIGN: "never fork from a process that runs gRPC or threads")::

    agent (asyncio) ──spawns once──► zygote ──forks per run──► shim ──forks──► container's PID 1
        │  client.Runtime                                       │  stdio, log, exit status,
        └──────────── unix socket per container ────────────────┘  exec, attach, resize

* ``client``     the asyncio seam for the agent; the only module that needs asyncio
* ``zygote``     one small single-threaded process with everything imported; forks shims
* ``standby``    a shim before its container comes, and ``spare`` the container's first process before it has one
* ``pages``      which memory a start writes to: copied while they wait
* ``shim``       one per run of a container; outlives agent and zygote
* ``container``  the steps between fork and exec, in order
* ``mounts``, ``cgroups``, ``namespaces``, ``capabilities``, ``seccomp``, ``paths``: one kernel subject each
* ``oci``, ``users``, ``logs``: pure pieces that others need

Modules that the zygote loads import only the lighter part of the standard library: what it
loads is mapped in every shim. Import from the module you need; this package re-exports nothing.

Exceptions (``errors``)::

    RuntimeFault                 anything this package raises on purpose
    ├── ConfigError              the OCI configuration cannot be run; names the field
    ├── StepError                a step of start, exec or delete failed; names step and path
    │   └── StartError           with the exit status Docker gives it: 125, 126 or 127
    ├── NoSuchContainer
    ├── WrongState               e.g. start of a running container
    └── ShimLost                 the shim does not answer
"""
