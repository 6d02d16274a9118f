"""Measuring from stations: one SSH session a station, all its probes concurrent inside it."""
