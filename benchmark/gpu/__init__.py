"""Check on a GPU that results are right, and measure speed."""
