"""Images made from a project's `build:` sections.

=============  ==========================================================================
``ignoring``   `.dockerignore`: which files of a context are sent
``contexts``   a context's files as a tar, as far as the node wants them
``requests``   a `build:` section of the file as the API's request
``calls``      builds going on beside each other: what is asked is answered, what is told is handed on
=============  ==========================================================================
"""
