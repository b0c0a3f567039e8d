"""Images made from Dockerfiles.

=================  ====================================================================================
``source``         pure: a file as statements: directives, continued lines, here-documents
``expansion``      pure: quotes, escapes and variables
``instructions``   what instructions say; ``parsing`` and ``mountwords`` read it from statements
``stages``         pure: which stages there are, and which of them a target needs
``evaluation``     pure: what instructions do to configuration and files
``errors``         what the builder says no with
=================  ====================================================================================
"""
