"""From networks of other kinds to a Graph: each source has a table and refuses the rest."""
