"""The gRPC API `pycompose.v1`: sources under `proto/pycompose/v1`, generated stubs in `pycompose.proto.v1`."""

#: Of the messages between nodes: raised when older programs could not understand newer ones.
PROTOCOL = 1
