"""Your service. Updates of the template never touch this folder."""
