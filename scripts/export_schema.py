#!/usr/bin/env python3
"""Write results/schema-vN.json anew from the dataclasses of harness/rigbench/records.py. A test fails when it is stale.

.venv/bin/python scripts/export_schema.py
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "harness"), str(ROOT / "backends")]

from rigbench.documents.store import json_schema  # noqa: E402
from rigbench.records import SCHEMA_VERSION  # noqa: E402

path = ROOT / "results" / f"schema-v{SCHEMA_VERSION}.json"
path.write_text(json.dumps(json_schema(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
print(f"wrote {path.relative_to(ROOT)}")
