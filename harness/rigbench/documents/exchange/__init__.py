"""Results in other tools' formats: read (importing, foreign) and written (export)."""
