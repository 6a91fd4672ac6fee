"""Measures one part in a process of its own: `python -m bench.part MODULE SCALE`; its last line is figures as JSON."""

from __future__ import annotations

import importlib
import json
import sys

from bench.figures import Scale

if __name__ == "__main__":
    module, scale = sys.argv[1:]
    print(json.dumps(importlib.import_module(module).measure(Scale(**json.loads(scale)))))
