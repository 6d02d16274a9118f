"""Every conversation with a device or a station, through Nornir."""
