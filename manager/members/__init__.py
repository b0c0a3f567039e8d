"""The managers as members of one store: who they are, who of them answers, how one comes and goes.

==============  ==================================================================================
``fellows``     the managers that were there last: ``STATE/manager/members.json``
``roster``      keeps that file
``quorum``      whether a majority of them answers, and the sentence of every command when it does not
``deciding``    who may go, and what is done with each member
``managing``    what a new manager is given; the members' calls around it
``leading``     what the leader does: promote, remove, write down
``upkeep``      etcd's past, files and alarms
``becoming``    the new manager's side
==============  ==================================================================================
"""
