"""Results in other tools' formats: read (importing; forms, entry, engines and servers are its parts) and written (export)."""
