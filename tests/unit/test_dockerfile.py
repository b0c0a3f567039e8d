"""Dockerfiles: read, expanded, divided into stages, evaluated ("Dockerfile reference")."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycompose.worker.builder import evaluation, instructions, parsing, source, stages
from pycompose.worker.builder.errors import BuildError, DockerfileError
from pycompose.worker.builder.expansion import ExpansionError, expand, words
from pycompose.worker.builder.mountwords import MountError, parse_mount

VALUES = {"a": "foo.tar.gz", "empty": "", "blank": "x y", "path": "/usr/local/bin"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$a", "foo.tar.gz"),
        ("${a}", "foo.tar.gz"),
        ("x$a.y", "xfoo.tar.gz.y"),
        ("${a%.*}", "foo.tar"),
        ("${a%%.*}", "foo"),
        ("${a#*.}", "tar.gz"),
        ("${a##*.}", "gz"),
        ("${a#nothing}", "foo.tar.gz"),
        ("${a%???}", "foo.tar"),
        ("${empty:-other}", "other"),
        ("${empty-other}", ""),
        ("${unset-other}", "other"),
        ("${unset:+other}", ""),
        ("${a:+other}", "other"),
        ("${empty+other}", "other"),
        ("${unset:-${a}}", "foo.tar.gz"),
        ("${unset:-'}'}", "}"),
        (r"${path//\//_}", "_usr_local_bin"),
        ("${path/usr/opt}", "/opt/local/bin"),
        ("${path/l*l}", "/usr//bin"),
        ("${a/o/0}", "f0o.tar.gz"),
        ("${a//o/0}", "f00.tar.gz"),
        ("'$a'", "$a"),
        ('"$blank z"', "x y z"),
        (r"\$a", "$a"),
        (r'"\$a \" \n"', '$a " \\n'),
        ("$", "$"),
        ("a$", "a$"),
        ("$unset", ""),
        (r"a\ b", "a b"),
    ],
)
def test_variables(text: str, wanted: str) -> None:
    assert expand(text, VALUES) == wanted


@pytest.mark.parametrize("text", ["${", "${a", "${a:", "${a!b}", "'x", '"x', "${unset:?gone}", "${unset?}", "${}"])
def test_variables_that_are_wrong(text: str) -> None:
    with pytest.raises(ExpansionError):
        expand(text, VALUES)


def test_an_escape_of_windows() -> None:
    assert expand("c:\\x`$a", VALUES, "`") == "c:\\x$a"


def test_words() -> None:
    assert words(r'"a b" c$a d\ e $blank', VALUES) == ["a b", "cfoo.tar.gz", "d e", "x", "y"]


def test_here_documents_keep_quotes() -> None:
    assert expand("'$a' \\$a \\n", VALUES, quotes=False) == "'foo.tar.gz' $a \\n"


def test_a_pattern_takes_no_time_to_speak_of() -> None:
    assert expand("${x##" + "*a" * 60 + "}", {"x": "a" * 10_000 + "b"}) == "b"


def read(text: str) -> list[instructions.Instruction]:
    return parsing.parse(source.read(text.encode()))


def test_lines() -> None:
    found = source.read(
        b"# syntax=docker/dockerfile:1\n# Escape = `\n# a comment\n\nFROM a `\n   # inside\n\n  AS b \nRUN echo \\\n"
    )
    assert found.directives == {"syntax": "docker/dockerfile:1", "escape": "`"}
    first, second = found.statements
    assert (first.word, first.rest.split(), first.first, first.last) == ("FROM", ["a", "AS", "b"], 5, 8)
    assert first.where(first.rest.index("AS")) == (8, 3)
    assert second.rest == "echo \\"


def test_directives_end_with_the_first_other_line() -> None:
    assert source.read(b"# hello\n# escape=`\nFROM a").escape == "\\"
    assert source.read(b"\n# escape=`\nFROM a").escape == "\\"
    assert source.read(b"#!/usr/bin/env -S docker build\n# escape=`\nFROM a").escape == "`"


def test_an_escaped_escape_continues_nothing() -> None:
    assert [one.rest for one in source.read(b"FROM a\nRUN a\\\\\nRUN b").statements] == ["a", "a\\\\", "b"]


def test_here_documents() -> None:
    found = source.read(b'FROM a\nCOPY <<one <<-"two" /x/\n1 $a\none\n\t2\n\ttwo\nRUN <<EOF\nx\nEOF\n')
    assert found.statements[1].heredocs == (
        source.Heredoc("one", "1 $a\n", True),
        source.Heredoc("two", "2\n", False),
    )
    copy = parsing.parse(found)[1]
    assert isinstance(copy, instructions.Copy)
    assert (copy.sources, copy.target) == ((), "/x/")
    assert source.read(b"FROM a\nRUN echo '<<EOF'\nRUN b").statements[1].heredocs == ()


@pytest.mark.parametrize(
    ("text", "where", "part"),
    [
        ("", (1, 0), "no instruction"),
        ("# only\n", (1, 0), "no instruction"),
        ("RUN a", (1, 0), "comes before the first FROM"),
        ("ARG a", (1, 0), "no FROM"),
        ("FORM a", (1, 1), "did you mean FROM?"),
        ("FROM a\ncopyy a b", (2, 1), "did you mean COPY?"),
        ("FROM", (1, 0), "needs an argument"),
        ("FROM a b", (1, 6), "write FROM IMAGE AS NAME"),
        ("FROM a AS 1x", (1, 6), "cannot be a stage's name"),
        ("FROM a\nCOPY a", (2, 6), "needs a source and a target"),
        ("FROM a\nCOPY \\\n  --form=x a b", (3, 3), "did you mean --from?"),
        ("FROM a\nCOPY --from a b", (2, 6), "write --from=VALUE"),
        ("FROM a\nCOPY --chown=1 --chown=2 a b", (2, 16), "is there twice"),
        ("FROM a\nCOPY --link=maybe a b", (2, 6), "use true or false"),
        ("FROM a\nENV a", (2, 5), "has no value"),
        ("FROM a\nENV a=b c", (2, 9), "not NAME=VALUE"),
        ("FROM a\nENV a='b", (2, 7), "has no partner"),
        ("FROM a\nARG 1=2", (2, 5), "cannot be a variable's name"),
        ("FROM a\nSHELL /bin/sh", (2, 7), "takes a JSON list"),
        ("FROM a\nRUN --network=some x", (2, 5), "use default, none or host"),
        ("FROM a\nRUN --mount=type=cash,target=/x x", (2, 5), "did you mean cache?"),
        ("FROM a\nRUN --mount=target=/x,sourc=y x", (2, 5), "did you mean source?"),
        ("FROM a\nHEALTHCHECK --interval=3 CMD x", (2, 13), "not a duration"),
        ("FROM a\nHEALTHCHECK CDM x", (2, 13), "write HEALTHCHECK"),
        ("FROM a\nONBUILD FROM x", (2, 9), "cannot stand after ONBUILD"),
        ("FROM a\nONBUILD RAN x", (2, 1), "did you mean RUN?"),
        ("FROM a\nRUN <<EOF\nx", (2, 0), "has no end"),
        ("# escape=x\nFROM a", (1, 1), "not a character that escapes"),
        ("# escape=`\n# escape=`\nFROM a", (2, 1), "is there twice"),
        ("FROM a\nVOLUME []", (2, 8), "paths that are not empty"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, where: tuple[int, int], part: str) -> None:
    with pytest.raises(DockerfileError) as told:
        read(text)
    assert (told.value.line, told.value.column) == where, told.value
    assert part in str(told.value)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(DockerfileError, match="2: the file is not UTF-8"):
        source.read(b"FROM a\nRUN \xff")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("target=/a", {"kind": "bind", "target": "/a", "read_only": True}),
        ("type=bind,dst=/a,src=b,from=c,rw", {"source": "b", "origin": "c", "read_only": False}),
        ("type=cache,target=/a,id=b,sharing=locked,mode=0700,uid=1", {"id": "b", "sharing": "locked", "mode": 0o700}),
        ("type=tmpfs,target=/a,size=64m", {"size": 64 << 20}),
        ("type=secret,id=a,env=B,required", {"id": "a", "variable": "B", "required": True}),
        ("type=ssh", {"kind": "ssh"}),
        ('type=bind,"target=/a,b"', {"target": "/a,b"}),
    ],
)
def test_mounts(text: str, wanted: dict[str, Any]) -> None:
    found = parse_mount(text)
    assert {name: getattr(found, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "text",
    [
        "type=bind",
        "type=x",
        "a",
        "target=/a,target=/b",
        "type=secret",
        "type=cache,target=/a,mode=9",
        "size=1,target=/a",
    ],
)
def test_mounts_that_are_wrong(text: str) -> None:
    with pytest.raises(MountError):
        parse_mount(text)


def divided(text: str, given: dict[str, str] | None = None, contexts: tuple[str, ...] = ()) -> stages.Stages:
    return stages.stages_of(read(text), given or {}, {"TARGETARCH": "amd64"}, contexts)


THREE = """\
ARG version=1
FROM base:${version} AS one
RUN a
FROM one AS two
FROM scratch AS unused
RUN b
FROM busybox
COPY --from=two /x /x
COPY --from=1 /y /y
RUN --mount=from=one,target=/z c
"""


def test_only_what_a_target_needs() -> None:
    found = divided(THREE, {"version": "2"})
    assert [stage.image for stage in found.stages] == ["base:2", "one", "scratch", "busybox"]
    assert [stage.index for stage in found.needed(found.target(""))] == [0, 1, 3]
    assert [stage.index for stage in found.needed(found.target("two"))] == [0, 1]
    assert [stage.index for stage in found.needed(found.target("2"))] == [2]
    with pytest.raises(BuildError, match="did you mean two"):
        found.target("twoo")


def test_a_context_stands_in_for_an_image_and_a_stage() -> None:
    found = divided(THREE, contexts=("one",))
    assert found.base_of(found.stages[1]) == stages.Origin(context="one")
    assert [stage.index for stage in found.needed(found.target(""))] == [1, 3]


def test_stages_that_need_one_another() -> None:
    found = divided("FROM a AS one\nCOPY --from=two x y\nFROM b AS two\nCOPY --from=one x y")
    with pytest.raises(DockerfileError, match="stages need one another: two -> one -> two"):
        found.needed(found.target(""))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("FROM $none", "its variables are empty"),
        ("FROM a AS x\nFROM b AS x", "two stages have the name x"),
        ("FROM a\nCOPY --from=3 x y", "there is no stage 3"),
    ],
)
def test_stages_that_are_wrong(text: str, part: str) -> None:
    with pytest.raises(DockerfileError, match=part.replace("$", r"\$")):
        needed(text)


def needed(text: str) -> list[stages.Stage]:
    found = divided(text)
    return found.needed(found.target(""))


def evaluated(
    text: str, config: dict[str, Any] | None = None, given: dict[str, str] | None = None
) -> tuple[evaluation.State, list[evaluation.Operation]]:
    state, _ = evaluation.begun({"config": config or {}}, given or {}, {"outer": "o"}, {"TARGETARCH": "amd64"})
    done = []
    for step in read("FROM base\n" + text)[1:]:
        state, operation = evaluation.apply(state, step)
        if operation is not None:
            done.append(operation)
    return state, done


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("ENV a=1\nENV a=2 b=$a", "Env", ["PATH=/usr/bin", "a=2", "b=1"]),
        ("ENV a  1 2 ", "Env", ["PATH=/usr/bin", "a=1 2"]),
        ("ARG x=1\nENV x=2\nLABEL l=$x", "Labels", {"l": "2"}),
        ("ARG outer\nLABEL l=$outer", "Labels", {"l": "o"}),
        ("LABEL l=$outer", "Labels", {"l": ""}),
        ("ARG TARGETARCH\nLABEL l=$TARGETARCH", "Labels", {"l": "amd64"}),
        ("ARG given=1\nLABEL l=$given", "Labels", {"l": "g"}),
        ('LABEL "a b"="c d" e=f', "Labels", {"a b": "c d", "e": "f"}),
        ("CMD echo $HOME", "Cmd", ["/bin/sh", "-c", "echo $HOME"]),
        ('CMD ["a", "b"]', "Cmd", ["a", "b"]),
        ('SHELL ["/bin/bash", "-ec"]\nCMD a', "Cmd", ["/bin/bash", "-ec", "a"]),
        ("ENTRYPOINT a", "Cmd", None),
        ('CMD ["x"]\nENTRYPOINT ["a"]', "Cmd", ["x"]),
        ("EXPOSE 80 53/udp 9000-9001", "ExposedPorts", {"80/tcp": {}, "53/udp": {}, "9000/tcp": {}, "9001/tcp": {}}),
        ("VOLUME /a /b", "Volumes", {"/a": {}, "/b": {}}),
        ('VOLUME ["/a b"]', "Volumes", {"/a b": {}}),
        ("USER a:b", "User", "a:b"),
        ("WORKDIR /a\nWORKDIR b\nWORKDIR ../c", "WorkingDir", "/a/c"),
        ("STOPSIGNAL SIGINT", "StopSignal", "SIGINT"),
        ("ONBUILD RUN x", "OnBuild", ["RUN x"]),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        (
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl x",
            "Healthcheck",
            {"Test": ["CMD-SHELL", "curl x"], "Interval": 90 * 10**9, "Retries": 2},
        ),
        ('HEALTHCHECK CMD ["a"]', "Healthcheck", {"Test": ["CMD", "a"]}),
    ],
)
def test_configuration(text: str, key: str, wanted: Any) -> None:
    state, _ = evaluated(text, {"Env": ["PATH=/usr/bin"], "Cmd": ["of the base"]}, {"given": "g"})
    assert state.settings.get(key) == wanted


def test_commands() -> None:
    state, (first, second, third, fourth) = evaluated(
        'ARG v=1\nARG HTTP_PROXY\nENV e=2\nUSER u\nRUN echo "$v"\nRUN ["a", "$v"]\n'
        "RUN <<EOF\nx $v\nEOF\nRUN <<EOF\n#!/usr/bin/python\nprint(1)\nEOF",
        given={"HTTP_PROXY": "p"},
    )
    assert isinstance(first, evaluation.RunOperation)
    assert first.arguments == ("/bin/sh", "-c", 'echo "$v"')
    assert (first.user, first.folder) == ("u", "/")
    assert {"v": "1", "e": "2", "HTTP_PROXY": "p"}.items() <= dict(first.environment).items()
    assert isinstance(second, evaluation.RunOperation)
    assert second.arguments == ("a", "$v")
    assert isinstance(third, evaluation.RunOperation)
    assert third.arguments == ("/bin/sh", "-c", "x $v\n")
    assert isinstance(fourth, evaluation.RunOperation)
    assert (fourth.arguments, fourth.script) == ((), "#!/usr/bin/python\nprint(1)\n")
    assert [entry.get("empty_layer", False) for entry in state.history] == [True] * 4 + [False] * 4


def test_a_program_that_reads_a_here_document() -> None:
    _, (found,) = evaluated("RUN cat <<'X' > /a\n$v\nX")
    assert isinstance(found, evaluation.RunOperation)
    assert found.arguments[-1] == "cat <<'X' > /a\n$v\nX\n"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("COPY a b", "/w/b"),
        ("COPY a .", "/w/"),
        ("COPY a b/", "/w/b/"),
        ("COPY a /", "/"),
        ("COPY a ../../../x", "/x"),
        ('COPY ["a b", "/c d/"]', "/c d/"),
        ("ENV t=/q\nCOPY a $t/x", "/q/x"),
    ],
)
def test_targets(text: str, target: str) -> None:
    _, done = evaluated(f"WORKDIR /w\n{text}")
    assert isinstance(done[1], evaluation.CopyOperation)
    assert done[1].target == target


def test_flags_of_copies() -> None:
    _, (found,) = evaluated("ARG u=7\nCOPY --from=x --chown=$u:8 --chmod=755 --link --parents --exclude=*.o a b/ c/")
    assert isinstance(found, evaluation.CopyOperation)
    assert (found.origin, found.owner, found.mode, found.link, found.parents) == ("x", "7:8", "755", True, True)
    assert (found.exclude, found.sources, found.target) == (("*.o",), ("a", "b/"), "/c/")
    with pytest.raises(DockerfileError, match="several files need a folder"):
        evaluated("COPY a b c")


def test_what_an_image_below_wants_done() -> None:
    state, triggers = evaluation.begun({"config": {"OnBuild": ["RUN a", "COPY . /x"]}}, {}, {}, {})
    assert triggers == ("RUN a", "COPY . /x")
    assert "OnBuild" not in state.settings


def test_a_proxy_changes_no_cache() -> None:
    _, (one,) = evaluated("RUN a", given={"http_proxy": "x"})
    _, (other,) = evaluated("RUN a", given={"http_proxy": "y"})
    assert isinstance(one, evaluation.RunOperation)
    assert one.hidden == (("http_proxy", "x"),)
    assert evaluation.encoded(one) == evaluation.encoded(other)


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [*sorted(parsing.FLAGS), "ARG a=1", "ENV a=$b", "CMD [", 'SHELL ["a"]', "RUN <<E", "E", "FROM a"]
        ),
        st.text("ab$\\{}[]\"'<-=/:#%?* \t,`", max_size=30),
    ),
    max_size=8,
)


@given(LINES, st.sampled_from(["", "# escape=`\n"]))
def test_no_text_does_worse_than_to_be_refused(lines: list[str], directive: str) -> None:
    text = directive + "FROM a\n" + "\n".join(lines)
    with contextlib.suppress(DockerfileError):
        found = stages.stages_of(read(text), {}, {}, ())
        for stage in found.needed(found.target("")):
            state, _ = evaluation.begun({}, {}, found.outer, {})
            for step in stage.instructions:
                state, _ = evaluation.apply(state, step)
