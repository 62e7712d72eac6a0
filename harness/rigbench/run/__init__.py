"""The parent: starts workers, keeps the journal, puts the document together. Never imports an engine or the worker."""
