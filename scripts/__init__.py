"""Hold the extranet command, one thin module a command group, and the project's own scripts."""
