"""Pure functions over graphs and records. Know no process."""
