"""`cluster ca`: the authority that signs the cluster's certificates, and its change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pycompose.compose.cli.errors import Exit, UsageError
from pycompose.compose.cli.flags import group
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client
from pycompose.proto.renewal import TOLERANCE
from pycompose.proto.v1 import cluster_pb2, cluster_pb2_grpc

#: For nodes to forget the authority that went; those that are away do when they are back.
LOOK_SECONDS, FORGETS_SECONDS = 0.2, 10.0
_SPREADING, _RENEWING = cluster_pb2.AUTHORITY_PHASE_SPREADING, cluster_pb2.AUTHORITY_PHASE_RENEWING
_WORDS = {
    cluster_pb2.AUTHORITY_PHASE_UNSPECIFIED: "settled: nodes forget the one before",
    _SPREADING: "being changed: nodes come to believe the next one",
    _RENEWING: "being changed: nodes get certificates of the new one",
}


@group(invoke_without_command=True)
@click.pass_context
def ca(ctx: click.Context) -> None:
    """Show the authority that signs the cluster's certificates, and how far its change is.

    \b
    pycompose cluster ca
    pycompose cluster ca rotate                              a new one
    pycompose cluster ca rotate --external ca.pem ca.key     one of your own
    """
    if ctx.invoked_subcommand is not None:
        return
    with settings().client(start=False) as client:
        found = _calls(client).GetAuthority(cluster_pb2.GetAuthorityRequest())
    for line in _told(found, datetime.now(UTC)):
        print(line)


def _calls(client: Client) -> Any:
    return client.service(cluster_pb2_grpc.ClusterServiceStub)


def _told(found: cluster_pb2.GetAuthorityResponse, now: datetime) -> Iterator[str]:
    yield f"{'authority':<13}{_described(found.certificate, now)}"
    if found.phase:
        which = "next" if found.phase == _SPREADING else "before"
        yield f"{which:<13}{_described(found.other_certificate, now)}"
        yield f"{'state':<13}{_WORDS[found.phase]}"
    else:
        yield f"{'state':<13}settled"
    if found.phase or found.waiting:
        yield f"{'waits for':<13}{', '.join(found.waiting) or 'nobody'}"


def _described(certificate: bytes, now: datetime) -> str:
    """Return who an authority is, its age and its end; the digest is what join tokens begin with."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from pycompose.compose.cli.words import age
    from pycompose.proto.tokens import digest

    found = x509.load_pem_x509_certificate(certificate)
    made = found.not_valid_before_utc + TOLERANCE
    old = age(max(0.0, (now - made).total_seconds())).lower()
    return f"{digest(found.public_bytes(Encoding.DER))[:12]}, {old} old, ends {found.not_valid_after_utc:%Y-%m-%d}"


@ca.command("rotate")
@click.option("--external", nargs=2, metavar="CERT KEY", help="Files (PEM) of your own authority.")
@click.option("--finish", is_flag=True, help="Go on without the nodes that a change waits for; they have to join anew.")
@click.option("-d", "--detach", is_flag=True, help="Do not wait for it.")
def rotate(external: tuple[str, str] | None, finish: bool, detach: bool) -> None:
    """Change the authority. No container and no connection ends for it.

    First every node believes both authorities, then each gets a certificate of the new one, then the old one goes.
    Nodes that are away are waited for. Join tokens are others afterwards, and contexts made before end: make them anew
    by context create --from-node.
    """
    if external and finish:
        raise UsageError("--external and --finish contradict one another")
    request = cluster_pb2.RotateAuthorityRequest(finish=finish)
    if external:
        request.external.certificate, request.external.key = (Path(path).read_bytes() for path in external)
    chosen = settings()
    if chosen.dry_run:
        return chosen.would(["change the cluster's authority"])
    with chosen.client(start=False) as client:
        found = _calls(client).RotateAuthority(request).authority
        if not detach:
            _follow(client, found, chosen.tell)
    return None


def _follow(client: Client, found: cluster_pb2.GetAuthorityResponse, tell: Any) -> None:
    """Tell how far it is until it is done. Raises Exit."""
    said, until = "", time.monotonic()
    try:
        while found.phase or (found.waiting and time.monotonic() < until):
            text = f"{_WORDS[found.phase]}; waits for {', '.join(found.waiting) or 'nobody'}"
            if text != said:
                tell(text)
                said = text
            time.sleep(LOOK_SECONDS)
            if found.phase:
                until = time.monotonic() + FORGETS_SECONDS
            found = _calls(client).GetAuthority(cluster_pb2.GetAuthorityRequest())
    except KeyboardInterrupt:
        tell("the change goes on by itself; pycompose cluster ca shows how far it is")
        raise Exit(130) from None
    tell("the authority is another now; print new join tokens, and make contexts anew: context create --from-node")
