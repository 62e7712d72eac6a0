"""Suite files, and the cases that they stand for."""
