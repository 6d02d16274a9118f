"""FRRouting on Linux, spoken to over SSH."""
