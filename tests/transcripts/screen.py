"""A terminal for tests: what a program wrote to it becomes lines, those that scrolled off included (ECMA-48).

It knows what our programs and BusyBox's use: wrapped text, CR, LF, BS, HT, moves of the cursor, erasing.
Colours are dropped.
"""

from __future__ import annotations

import re
import unicodedata

_SEQUENCE = re.compile(
    r"\x1b(?:\[([?>]?)([\d;]*)([@-~])|[()][A-Z0-9]|[=>78cDEHM])|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f\x1b]"
)


class Screen:
    """`history` are lines that left the screen at its top; `lines` are on it."""

    def __init__(self, columns: int, height: int) -> None:
        self.columns, self.height = columns, height
        self.history: list[str] = []
        self.lines: list[list[str]] = [[] for _ in range(height)]
        self.row = self.column = 0
        self.most = 0

    def feed(self, text: str) -> None:
        """Take in what a program wrote."""
        for match in _SEQUENCE.finditer(text):
            if match[3]:
                self._control(match[3], [int(one or 0) for one in match[2].split(";")], private=bool(match[1]))
            elif match[0] == "\r":
                self.column = 0
            elif match[0] == "\n":
                self._down()
            elif match[0] == "\b":
                self.column = max(0, self.column - 1)
            elif match[0] == "\t":
                self.column = min(self.columns - 1, self.column // 8 * 8 + 8)
            elif match[0] >= " ":
                self._put(match[0])

    def text(self) -> list[str]:
        """Return all lines, history first, without blanks at their ends."""
        return [*self.history, *("".join(line).rstrip() for line in self.lines)]

    def resize(self, columns: int, height: int) -> None:
        """Change the size; lines that do not fit any more go into the history."""
        while len(self.lines) > height:
            self.history.append("".join(self.lines.pop(0)).rstrip())
            self.row = max(0, self.row - 1)
        self.lines += [[] for _ in range(height - len(self.lines))]
        self.columns, self.height = columns, height

    def _put(self, character: str) -> None:
        if unicodedata.combining(character):
            return
        width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if self.column + width > self.columns:
            self.column = 0
            self._down()
        line = self.lines[self.row]
        line += [" "] * (self.column + width - len(line))
        line[self.column : self.column + width] = [character, ""][:width]
        self.column += width

    def _down(self) -> None:
        if self.row < self.height - 1:
            self.row += 1
            return
        self.history.append("".join(self.lines.pop(0)).rstrip())
        self.lines.append([])

    def _control(self, kind: str, numbers: list[int], *, private: bool) -> None:
        count = max(1, numbers[0])
        if private or kind == "m":
            return
        if kind == "A":
            self.row = max(0, self.row - count)
        elif kind == "B":
            self.row = min(self.height - 1, self.row + count)
        elif kind == "C":
            self.column = min(self.columns - 1, self.column + count)
        elif kind == "D":
            self.column = max(0, self.column - count)
        elif kind == "G":
            self.column = count - 1
        elif kind == "H":
            self.row = min(self.height, count) - 1
            self.column = min(self.columns, max(1, numbers[1] if len(numbers) > 1 else 1)) - 1
        elif kind == "K":
            self._erase_line(numbers[0])
        elif kind == "J":
            self._erase(numbers[0])

    def _erase_line(self, how: int) -> None:
        line = self.lines[self.row]
        if how in (1, 2):
            line[: self.column + 1] = [" "] * min(len(line), self.column + 1)
        if how in (0, 2):
            del line[self.column :]

    def _erase(self, how: int) -> None:
        if how == 0:
            self._erase_line(0)
        for number in range(self.height):
            if how == 2 or (how == 0 and number > self.row) or (how == 1 and number < self.row):
                self.lines[number] = []
