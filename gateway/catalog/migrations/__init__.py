"""The catalog's migrations: one linear history, run by Alembic."""
