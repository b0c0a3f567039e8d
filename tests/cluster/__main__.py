"""The bed by hand: ``python -m tests.cluster up [HOST…]``, ``exec HOST -- COMMAND``, ``cut A B``, ``heal``, ``down``.

The first host is the cluster's manager, the others have joined it; with ``up --apart`` each is a single node.

What is started is kept in /tmp/pycompose-bed, or where PYCOMPOSE_BED says.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cluster.bed import Bed, begin
from cluster.forming import form

HOSTS = ("m1", "m2", "m3", "w1", "w2", "w3")


def main(words: list[str]) -> int:
    """Do what the command line says; returns the exit status."""
    folder = Path(os.environ.get("PYCOMPOSE_BED") or "/tmp/pycompose-bed")
    match words:
        case ["up", *rest]:
            names = [name for name in rest if name != "--apart"]
            if (folder / "bed.json").exists():
                sys.stderr.write(f"a bed is there already ({folder}); end it first: python -m tests.cluster down\n")
                return 1
            bed = begin(folder)
            try:
                for name in names or HOSTS:
                    bed.add(name).start()
                if "--apart" not in rest:
                    first, *others = bed.hosts.values()
                    form(first, others)
            except BaseException:
                bed.down()
                raise
            bed.save()
            for host in bed.hosts.values():
                sys.stdout.write(f"{host.name}\t{host.address}\n")
            return 0
        case ["exec", name, "--", *command]:
            host = Bed.load(folder).hosts[name]
            os.execvpe("nsenter", host.on_machine(*command), host.environment())
        case ["cut", first, second]:
            Bed.load(folder).cut(first, second)
        case ["isolate", name]:
            Bed.load(folder).isolate(name)
        case ["lose", name, percent]:
            Bed.load(folder).lose(name, int(percent))
        case ["heal"]:
            Bed.load(folder).heal()
        case ["down"]:
            Bed.load(folder).down()
            shutil.rmtree(folder)
        case _:
            sys.stderr.write((__doc__ or "") + "\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
