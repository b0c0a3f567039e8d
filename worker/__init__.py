"""This machine: the agent, container runtime, images, networks and volumes of one node."""
