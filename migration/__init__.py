"""The campaign: units, gates, ledger. Decides; what it decides from is data."""
