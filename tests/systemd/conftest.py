"""Tests that need systemd as the init system; they own the machine, and so run in `make test-vm`'s guest alone."""

from __future__ import annotations

import os

if not os.path.isdir("/run/systemd/system") or not os.path.exists("/project/tests/vm/task"):
    collect_ignore_glob = ["test_*.py"]
