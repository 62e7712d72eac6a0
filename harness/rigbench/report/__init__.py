"""What people look at. Computes nothing: every number comes from rigbench/analysis."""
