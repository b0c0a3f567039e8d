"""The command line: Docker Compose's commands and flags, and `container|image|network|volume|service|node` below.

`main.py` is the entry; it knows every command by name and imports only the one that runs, so that `--help` and `ps`
stay quick. A command reads its flags, asks `compose.loader`, `compose.convert` and `compose.plan` what should be, and
`compose.client` what is. Data goes to stdout; progress, warnings and errors go to stderr.
"""
