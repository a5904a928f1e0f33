"""What people see: view models, and their renderers for terminal, notebook and command line."""
