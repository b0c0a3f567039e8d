"""Calls every method of the API at a port with a credential, and prints what came of each; run on a node's machine.

Standard input: JSON {"targets": [HOST:PORT], "name": whom the server must prove to be, "identity": {certificate, key,
authorities} or null, "plain": bool, "methods": [full names], "message": hexadecimal}. Output: JSON
{target: {method: "STATUS details"}}.
"""

from __future__ import annotations

import json
import sys

import grpc

SECONDS = 30.0


def ask(channel: grpc.Channel, method: str, message: bytes) -> str:
    """Return the status of a call with a message, whatever the call's shape is."""
    call = channel.stream_stream(method, request_serializer=bytes, response_deserializer=bytes)
    try:
        for _ in call(iter([message]), timeout=SECONDS):
            return "OK"
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"
    return "OK"


def main() -> None:
    """Do it."""
    asked = json.load(sys.stdin)
    message = bytes.fromhex(asked["message"])
    found: dict[str, dict[str, str]] = {}
    for target in asked["targets"]:
        who = asked["identity"]
        options = [("grpc.ssl_target_name_override", asked["name"]), ("grpc.enable_http_proxy", 0)]
        if asked["plain"]:
            channel = grpc.insecure_channel(target, options=options)
        else:
            parts = {name: text.encode() for name, text in who.items()}
            pair = (parts["key"], parts["certificate"]) if parts["certificate"] else (None, None)
            credentials = grpc.ssl_channel_credentials(parts["authorities"], *pair)
            channel = grpc.secure_channel(target, credentials, options=options)
        with channel:
            found[target] = {method: ask(channel, method, message) for method in asked["methods"]}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
