"""`develop.watch`: files of this machine that containers get as soon as they change.

::

    notify (inotify, or polling)  ->  changed paths, gathered until it is quiet for a moment
    rules                         ->  what each path means: pure, from the file's triggers to a batch of actions
    session                       ->  the batch carried out: sync, restart, exec

Nothing here prints.
"""
