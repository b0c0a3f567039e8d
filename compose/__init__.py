"""The front end: Compose files, the command line, and the people in front of it."""
