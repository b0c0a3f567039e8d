"""The agent: makes this machine's containers what the manager says, and tells how they are.

===================  =====================================================================
``desired``          pure: assignments folded into what should be here
``machine``          pure: one task: what should be + what is -> the next step
``oci_config``       pure: a task's spec and its image -> an OCI configuration; ``resources``: its limits
``network_view``     pure: what should be -> the network package's values
``record``           what is known of one task; kept on disk, so that a new agent goes on
``runner``           the shell around ``machine``: carries out steps of one task, one after another
``provision``        a task's image: found, or pulled by its policy
``preparation``      from a task's spec to a container that can be started; what each start needs anew
``mounting``         binds, volumes, tmpfs, images and other containers' volumes as mounts
``devices``          device files, and the cgroup's rules about them
``shared``           /dev/shm of a shareable container, parents of cgroups
``files``            hosts, resolv.conf, hostname, secrets and configs of one task
``health``           pure: results of probes -> health; and the loop that probes
``session``          the stream to the manager
``agent``            owns all of these
===================  =====================================================================
"""
