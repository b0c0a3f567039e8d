"""etcd's members, as one of them tells: list, add a learner, promote, remove; and what each member says of itself.

Source: https://etcd.io/docs/v3.4/learning/design-learner/, api_reference_v3 (Cluster, Maintenance). The list is the
asked member's own and needs no majority; changes need one.
"""

from __future__ import annotations

from collections.abc import Mapping

from pycompose.manager.store.etcd import wire_pb2 as wire
from pycompose.manager.store.etcd.client import Client

#: Reading and writing a whole file anew takes as long as the disk does.
DEFRAGMENT_SECONDS = 120.0


class Cluster:
    """The calls. `client`: of the member that is asked."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def members(self) -> list[wire.Member]:
        """Return all members, learners too; one that was added and never started has no name."""
        return list(
            (await self._client.read("Cluster/MemberList", wire.MemberListRequest(), wire.MembersResponse)).members
        )

    async def add_learner(self, peer: str) -> wire.Member:
        """Add a member that gets everything and has no vote yet. `peer`: its host:port for the others."""
        request = wire.MemberAddRequest(peer_urls=[f"https://{peer}"], is_learner=True)
        return (await self._client.write("Cluster/MemberAdd", request, wire.MemberAddResponse)).member

    async def promote(self, identity: int) -> None:
        """Give a learner its vote. Raises StoreError: it has not everything yet."""
        await self._client.write("Cluster/MemberPromote", wire.MemberRequest(id=identity), wire.MembersResponse)

    async def remove(self, identity: int) -> None:
        """Remove a member; its etcd ends."""
        await self._client.write("Cluster/MemberRemove", wire.MemberRequest(id=identity), wire.MembersResponse)

    async def move_leader(self, identity: int) -> None:
        """Let another member lead; the one that is asked must lead now."""
        await self._client.write(
            "Maintenance/MoveLeader", wire.MoveLeaderRequest(target_id=identity), wire.MoveLeaderResponse
        )

    async def status(self) -> wire.StatusResponse:
        """Return what the member that is asked says of itself."""
        return await self._client.status()

    async def alarms(self) -> Mapping[int, list[wire.Alarm.Kind.ValueType]]:
        """Return the alarms that were raised, by member."""
        found: dict[int, list[wire.Alarm.Kind.ValueType]] = {}
        answer = await self._client.write("Maintenance/Alarm", wire.AlarmRequest(), wire.AlarmResponse)
        for alarm in answer.alarms:
            found.setdefault(alarm.member_id, []).append(alarm.kind)
        return found

    async def disarm(self, member: int, kind: wire.Alarm.Kind.ValueType) -> None:
        """Take an alarm back."""
        request = wire.AlarmRequest(action=wire.AlarmRequest.DEACTIVATE, member_id=member, kind=kind)
        await self._client.write("Maintenance/Alarm", request, wire.AlarmResponse)

    async def defragment(self) -> None:
        """Give back the space in the file of the member that is asked; it answers nothing meanwhile."""
        await self._client.write(
            "Maintenance/Defragment", wire.DefragmentRequest(), wire.DefragmentResponse, DEFRAGMENT_SECONDS
        )


def peer_of(member: wire.Member) -> str:
    """Return host:port of a member for the others."""
    return member.peer_urls[0].partition("://")[2] if member.peer_urls else ""
