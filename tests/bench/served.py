"""A device served in a process of its own, for the benchmark; its main thread runs what it is told.

``served.py SOCKET``: each line of standard input is a JSON string of Python, run in one namespace in which
``wb`` is the package and ``path`` the socket; each answer is a line of JSON, the value of ``answer``.
"""

import json
import sys

import workbench as wb

space = {"wb": wb, "path": sys.argv[1], "answer": None}
for line in sys.stdin:
    space["answer"] = None
    exec(compile(json.loads(line), "<bench>", "exec"), space)
    print(json.dumps(space["answer"]), flush=True)
