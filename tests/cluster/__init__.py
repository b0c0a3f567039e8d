"""A bed of several hosts on one machine: see `bed`; by hand: ``python -m tests.cluster up``."""
