"""What is declared, planned and recorded: frozen data, no I/O."""
