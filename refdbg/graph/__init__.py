"""Objects as columns of integers. Knows no process."""
