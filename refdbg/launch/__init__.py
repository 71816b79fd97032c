"""Starting a debugger, gathering, reporting: joins both ends."""
