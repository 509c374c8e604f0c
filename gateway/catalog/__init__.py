"""The catalog: the site's memory in one SQLite file."""
