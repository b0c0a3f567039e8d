"""The managers as members of one store: who they are, who of them answers, how one comes and goes.

==============  ==================================================================================
``fellows``     the managers that were there last: ``STATE/manager/members.json``
``quorum``      whether a majority of them answers, and the sentence of every command when it does not
==============  ==================================================================================
"""
