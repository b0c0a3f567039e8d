"""Images made from Dockerfiles.

=================  ====================================================================================
``source``         pure: a file as statements: directives, continued lines, here-documents
``expansion``      pure: quotes, escapes and variables
``instructions``   what instructions say; ``parsing`` and ``mountwords`` read it from statements
``stages``         pure: which stages there are, and which of them a target needs
``evaluation``     pure: what instructions do to configuration and files
``building``       one build: its stages, each step done or taken from the ``cache``
``contexts``       the files of the client's contexts, asked for when a step needs them
``layering``       operations done, each over the layers so far
``running``        RUN, in a container; ``fetching`` what ADD takes from the web
``files``          the child ``program`` that copies, packs and digests: ``tree`` reads, ``copier`` writes, ``modes``
``errors``         what the builder says no with
=================  ====================================================================================
"""
