"""The gRPC API `pycompose.v1`: sources under `proto/pycompose/v1`, generated stubs in `pycompose.proto.v1`."""
