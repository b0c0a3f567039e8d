"""Hands on any task: TaskAccessService and ImageService through any manager to the worker that has it.

=============  ==========================================================================================
``requests``   pure: what a call's first message is about: a task, several, a node, all nodes
``workers``    where each node's worker is, and a connection to it
``forward``    one call to one worker: messages pass as bytes, unread
``merging``    one answer of several workers' streams, in time order, with bounded buffers
``holders``    which nodes have an image
``router``     the handler of both services
=============  ==========================================================================================

Cutting the client's call cancels every call behind it. Back pressure comes from awaiting each write.
"""

from pycompose.manager.routing.holders import Holders
from pycompose.manager.routing.router import Router, add_router
from pycompose.manager.routing.workers import Workers, by_identity

__all__ = ["Holders", "Router", "Workers", "add_router", "by_identity"]
