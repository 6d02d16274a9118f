"""What exists and what is wanted: the county's model, its reader, and the one source of hosts."""
