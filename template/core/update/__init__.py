"""The updater: it takes over a newer version of the template. The service does not import it."""

EXIT_CONFLICTS = 4
"""The exit status of an update that left conflicts."""
