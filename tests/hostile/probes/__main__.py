"""The control of the probes: a plain process that reads `{"name": …, "targets": …}` lines, and tries each in a child.

Answers each line with one: `succeeded`, or the traceback as a JSON string. The prober plugin loads this file too, for
`load`: neither has the tests on its path.
"""

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
PACKAGE = "tests.hostile.probes"


def load() -> dict[str, Any]:
    """The table of probes; their package under the name by which its files import each other."""
    if PACKAGE not in sys.modules:
        for parent in ("tests", "tests.hostile"):
            sys.modules.setdefault(parent, ModuleType(parent))
        spec = importlib.util.spec_from_file_location(
            PACKAGE, HERE / "__init__.py", submodule_search_locations=[str(HERE)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = module
        spec.loader.exec_module(module)
    table: dict[str, Any] = sys.modules[PACKAGE].PROBES
    return table


def serve() -> None:
    """Until the end of stdin. A probe may change its process for good, so each has one of its own."""
    probes = load()
    for line in sys.stdin:
        asked = json.loads(line)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            said = "succeeded"
            try:
                os.close(read_end)
                os.setpgid(0, 0)  # a signal to the whole group reaches nobody else
                probes[asked["name"]].attempt(asked["targets"])
            except BaseException:
                said = traceback.format_exc()
            os.write(write_end, said.encode())
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as answer:
            said = answer.read().decode()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not said:  # the child closes its end by becoming another program
            said = "succeeded" if status == 0 else f"ended with {status}"
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    serve()
