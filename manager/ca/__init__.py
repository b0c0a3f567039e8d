"""The cluster's certificate authority: pure functions over keys, requests and times.

==============  ======================================================================
``authority``   an authority; signs requests with a role and a life
``tokens``      what a machine joins with: the authority's digest and a secret
``renewal``     when a certificate is renewed
==============  ======================================================================
"""

from pycompose.manager.ca.authority import Authority, RequestError, Subject
from pycompose.manager.ca.renewal import renew_at
from pycompose.manager.ca.tokens import Token, TokenError

__all__ = ["Authority", "RequestError", "Subject", "Token", "TokenError", "renew_at"]
