"""The ledger's schema, revision by revision. `alembic` runs them; what they say is plain SQL for each database."""
