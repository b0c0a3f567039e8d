"""Names of the labels on what a project makes: Docker Compose's, so that its tools find them, and some of ours."""

from __future__ import annotations

from collections.abc import Mapping

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
ONEOFF = "com.docker.compose.oneoff"
CONFIG_HASH = "com.docker.compose.config-hash"
WORKING_DIR = "com.docker.compose.project.working_dir"
CONFIG_FILES = "com.docker.compose.project.config_files"
DEPENDS_ON = "com.docker.compose.depends_on"
VERSION = "com.docker.compose.version"
NETWORK = "com.docker.compose.network"
VOLUME = "com.docker.compose.volume"
SECRET_FINGERPRINT = "pycompose.fingerprint"
PROVIDED = "pycompose.provider."
SINGLE = "pycompose.container"
FILES_FINGERPRINT = "pycompose.files"
CONSOLE_SIZE = "pycompose.console-size"
#: Of an init service: whose it is, and what that one looked like.
PRE_START_OF, PRE_START_SEEN = "pycompose.pre-start-of", "pycompose.pre-start-seen"


def owner(name: str, labels: Mapping[str, str]) -> str:
    """Return whose a service is: of an init service the one that waits for it, else itself."""
    return labels.get(PRE_START_OF) or name
