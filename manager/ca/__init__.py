"""The cluster's certificate authority: pure functions over keys, requests and times.

==============  ======================================================================
``authority``   an authority; signs requests with a role and a life
``trust``       what a cluster believes and signs with now, and whom it lets in
``joining``     the services JoinService and CaService over it
``reaching``    whether an address leads to the machine that says so
==============  ======================================================================
"""

from pycompose.manager.ca.authority import Authority, RequestError, Subject

__all__ = ["Authority", "RequestError", "Subject"]
