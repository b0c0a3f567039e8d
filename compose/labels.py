"""Names of the labels on what a project makes: Docker Compose's, so that its tools find them, and some of ours."""

from __future__ import annotations

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
