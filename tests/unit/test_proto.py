"""The API keeps buf's standard lint rules, and every field says what it is.

https://buf.build/docs/lint/rules lists the rules; these are the ones that a change here can break.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import grpc_tools
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

import pycompose.proto

SOURCES = Path(pycompose.proto.__file__).resolve().parent
MESSAGE, ENUM, SERVICE, FIELD, VALUE, METHOD = 4, 5, 6, 2, 2, 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    target = tmp_path_factory.mktemp("descriptors") / "set"
    sources = sorted(str(path.relative_to(SOURCES)) for path in (SOURCES / "pycompose/v1").glob("*.proto"))
    bundled = Path(grpc_tools.__file__).parent / "_proto"
    options = ["--include_source_info", f"--descriptor_set_out={target}", f"-I{SOURCES}", f"-I{bundled}"]
    assert protoc.main(["protoc", *options, *sources]) == 0
    return list(FileDescriptorSet.FromString(target.read_bytes()).file)


def comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}


def messages(file: FileDescriptorProto) -> Iterator[tuple[int, DescriptorProto]]:
    for index, message in enumerate(file.message_type):
        assert not [nested for nested in message.nested_type if not nested.options.map_entry], message.name
        yield index, message


def enums(file: FileDescriptorProto) -> Iterator[EnumDescriptorProto]:
    yield from file.enum_type


def snake(camel: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", camel).upper()


def test_every_field_is_documented(files: list[FileDescriptorProto]) -> None:
    missing = [
        f"{file.name}: {message.name}.{field.name}"
        for file in files
        for index, message in messages(file)
        for number, field in enumerate(message.field)
        if not comments(file).get((MESSAGE, index, FIELD, number)) and not is_mode_of_oneof(message, number)
    ]
    assert missing == []


def is_mode_of_oneof(message: DescriptorProto, number: int) -> bool:
    """Members of `object` oneofs name a kind of object; the oneof has the comment."""
    field = message.field[number]
    return field.HasField("oneof_index") and message.oneof_decl[field.oneof_index].name == "object"


def test_every_message_enum_value_and_call_is_documented(files: list[FileDescriptorProto]) -> None:
    """Requests and responses are told by their calls."""
    missing = []
    for file in files:
        told = comments(file)
        for index, message in messages(file):
            if not message.name.endswith(("Request", "Response")) and not told.get((MESSAGE, index)):
                missing.append(message.name)
        for index, enum in enumerate(file.enum_type):
            missing += [enum.name] if not told.get((ENUM, index)) else []
            missing += [v.name for place, v in enumerate(enum.value) if not told.get((ENUM, index, VALUE, place))]
        for index, service in enumerate(file.service):
            calls = enumerate(service.method)
            missing += [method.name for place, method in calls if not told.get((SERVICE, index, METHOD, place))]
    assert missing == []


def test_package_and_file_names(files: list[FileDescriptorProto]) -> None:
    for file in files:
        assert file.package == "pycompose.v1"
        assert re.fullmatch(r"pycompose/v1/[a-z_]+\.proto", file.name)
        assert file.syntax == "proto3"


def test_enum_values_carry_the_enums_name_and_zero_is_unspecified(files: list[FileDescriptorProto]) -> None:
    for file in files:
        for enum in enums(file):
            prefix = snake(enum.name) + "_"
            assert all(value.name.startswith(prefix) for value in enum.value), enum.name
            assert enum.value[0].number == 0
            assert enum.value[0].name == prefix + "UNSPECIFIED"


def test_field_names_are_lower_snake_case(files: list[FileDescriptorProto]) -> None:
    for file in files:
        for _, message in messages(file):
            assert re.fullmatch(r"([A-Z][a-z0-9]*)+", message.name), message.name
            assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", field.name) for field in message.field), message.name


def test_every_call_has_its_own_request_and_response(files: list[FileDescriptorProto]) -> None:
    used: list[str] = []
    for file in files:
        for service in file.service:
            assert service.name.endswith("Service")
            for method in service.method:
                assert method.input_type == f".pycompose.v1.{method.name}Request"
                assert method.output_type == f".pycompose.v1.{method.name}Response"
                used += [method.input_type, method.output_type]
    assert len(used) == len(set(used))
