"""From a loaded project to the objects that the control API takes.

`convert` is a function over values: the project, and a small `Machine` through which it may look at files (secrets'
contents, whether a bind source exists). Nothing of the file is dropped in silence: what this version cannot honour is
an error with its place, or a warning that names it.
"""

from pycompose.compose.convert.desired import Desired, Machine, MachineFiles
from pycompose.compose.convert.project import convert

__all__ = ["Desired", "Machine", "MachineFiles", "convert"]
