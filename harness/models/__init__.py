"""Models: what they are (catalog), what a step reads of them (footprint), where they come from (files, hub, synthetic)."""
