"""A transcript: a text file of commands and what they print, played on a real node and compared, or written anew.

::

    # a remark
    file compose.yaml            writes a file: the lines below it, indented by four
    screen 200x50                size of the terminal from here on (80x24 at first)
    node PYCOMPOSE_X=y           a variable for the commands from here on

    $ pycompose ps               a shell command off the terminal: its output, "! " before what went to stderr
    $~ pycompose up -d           the same, its lines sorted: containers start in no order
    % pycompose up               a shell command on a terminal: what is on the screen at its end, and what scrolled off
    %~ pycompose up              the same, sorted between the keys: output of containers comes in no order
    > wait Attached              … which first waits for a text on the screen,
    > type y                     types a line,
    > keys v                     letters without a line's end,
    > key ^C                     or a key (^C ^D ^Z ^\\),
    > run pycompose kill web     runs a command meanwhile, or
    > size 100x30                resizes the terminal
      output                     output is indented by two, blank lines are left out
    [status 1]                   the exit status when it is not 0
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transcripts.normal import normal
from transcripts.screen import Screen

SECONDS = 90.0
QUIET = 0.1
KEYS = {"^C": "\x03", "^D": "\x04", "^Z": "\x1a", "^\\": "\x1c", "^[": "\x1b"}

#: States that may pass before a client sees them; left out where the order is.
MOMENT = re.compile(r"Starting$|\"Starting\"")


@dataclass
class Entry:
    """One piece of a transcript: its own lines, and what was printed for it."""

    lines: list[str]
    output: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The first line."""
        return self.lines[0]


def parse(text: str) -> list[Entry]:
    """Return the pieces of a transcript; remarks and blank lines are pieces, too."""
    entries: list[Entry] = []
    for line in text.splitlines():
        head = entries[-1].head if entries else ""
        inside = head.startswith(("$", "%"))
        if (head.startswith("file ") and line.startswith("    ")) or (inside and line.startswith("> ")):
            entries[-1].lines.append(line)
        elif inside and line.startswith(("  ", "! ", "[status ")):
            entries[-1].output.append(line)
        else:
            entries.append(Entry([line]))
    return entries


class Player:
    """Plays transcripts in a folder.

    Args:
        wrap: returns the command that runs words on the node's machine.
        folder: where files are written and commands run, as the machine sees it.
        files: the same folder as this process sees it.
        environment: of the commands.
        replace: (pattern, replacement) pairs of what else differs from run to run.
    """

    def __init__(
        self,
        wrap: Sequence[str],
        files: Path,
        environment: Mapping[str, str],
        replace: Sequence[tuple[str, str]],
    ) -> None:
        self._wrap, self._files = list(wrap), files
        self._environment = dict(environment)
        self._replace = replace
        self._size = (80, 24)

    def play(self, text: str) -> str:
        """Return the transcript as it is now."""
        lines: list[str] = []
        for entry in parse(text):
            lines += [*entry.lines, *self._play(entry)]
        return "\n".join(lines) + "\n"

    def _play(self, entry: Entry) -> list[str]:
        word, _, rest = entry.head.partition(" ")
        if word == "file":
            path = self._files / rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{line[4:]}\n" for line in entry.lines[1:]))
        elif word == "screen":
            columns, _, height = rest.partition("x")
            self._size = (int(columns), int(height))
        elif word == "node":
            name, _, value = rest.partition("=")
            self._environment[name] = value
        elif word in ("$", "$~"):
            return self._off_terminal(rest, ordered=word == "$")
        elif word in ("%", "%~"):
            return self._on_terminal(rest, [line[2:] for line in entry.lines[1:]], ordered=word == "%")
        return []

    def _command(self, command: str) -> list[str]:
        return [*self._wrap, "bash", "-c", command]

    def _off_terminal(self, command: str, *, ordered: bool) -> list[str]:
        done = subprocess.run(
            self._command(command),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        lines = [f"  {line}" for line in normal(done.stdout.splitlines(), self._replace)]
        errors = [f"! {line}" for line in normal(done.stderr.splitlines(), self._replace)]
        if not ordered:
            lines, errors = (sorted(each for each in some if not MOMENT.search(each)) for some in (lines, errors))
        return [*lines, *errors, *_status(done.returncode)]

    def _on_terminal(self, command: str, directions: Sequence[str], *, ordered: bool) -> list[str]:
        with _Terminal(self._command(command), self._environment, *self._size) as terminal:
            for direction in directions:
                word, _, rest = direction.partition(" ")
                if word == "wait":
                    terminal.wait(rest)
                elif word == "type":
                    terminal.write(rest + "\r")
                elif word == "keys":
                    terminal.write(rest)
                elif word == "key":
                    terminal.write(KEYS[rest])
                elif word == "size":
                    columns, _, height = rest.partition("x")
                    terminal.resize(int(columns), int(height))
                elif word == "run":
                    subprocess.run(self._command(rest), env=self._environment, capture_output=True, timeout=SECONDS)
                else:
                    raise ValueError(direction)
            status = terminal.end()
            lines = terminal.screen.text()
        lines = lines if ordered else _sorted_between_keys(lines)
        return [*(f"  {line}" for line in normal(lines, self._replace)), *_status(status)]


def _sorted_between_keys(lines: Sequence[str]) -> list[str]:
    found: list[str] = []
    part: list[str] = []
    for line in lines:
        if line.startswith("[+]"):
            continue  # there only while no output has flowed past it
        if line.startswith("^"):
            found += [*sorted(part), line]
            part = []
        else:
            part.append(line)
    return found + sorted(part)


def _status(number: int) -> list[str]:
    return [f"[status {number}]"] if number else []


class _Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], columns: int, height: int) -> None:
        self.screen = Screen(columns, height)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            _set_size(0, columns, height)
            os.execvpe(command[0], list(command), dict(environment))
        self._open = True

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self._open:
            os.close(self._file)
        try:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def write(self, text: str) -> None:
        """Type; what was printed before is read first."""
        for _ in self._read(QUIET):
            pass
        os.write(self._file, text.encode())

    def resize(self, columns: int, height: int) -> None:
        """Change the size of the window."""
        self.screen.resize(columns, height)
        _set_size(self._file, columns, height)
        for _ in self._read(QUIET):
            pass

    def wait(self, text: str) -> None:
        """Read until a text is on the screen or has scrolled off it."""
        pattern = re.compile(text)
        deadline = time.monotonic() + SECONDS
        while not any(pattern.search(line) for line in self.screen.text()):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} on the screen:\n" + "\n".join(self.screen.text()))
            for _ in self._read(QUIET):
                pass

    def end(self) -> int:
        """Read until the program ends; return its exit status."""
        deadline = time.monotonic() + SECONDS
        while self._open:
            if time.monotonic() > deadline:
                raise AssertionError("it does not end:\n" + "\n".join(self.screen.text()))
            for _ in self._read(QUIET):
                pass
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _read(self, seconds: float) -> Iterator[None]:
        """Read what comes until it is quiet for so long."""
        while self._open:
            ready, _, _ = select.select([self._file], [], [], seconds)
            if not ready:
                return
            try:
                data = os.read(self._file, 65536)
            except OSError:
                data = b""
            if not data:
                self._open = False
                os.close(self._file)
                return
            self.screen.feed(self._decoder.decode(data))
            yield


def _set_size(descriptor: int, columns: int, height: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, columns, 0, 0))
