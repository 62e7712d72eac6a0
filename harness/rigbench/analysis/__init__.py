"""Pure: records in, numbers out. No clock, no file, no print."""
