"""The updater: it takes over a newer version of the template. The service does not import it."""

ANSWERS_FILE = ".copier-answers.yml"
LOCK = "uv.lock"

EXIT_FAILED = 2
"""The exit status of an update that failed and changed nothing."""
EXIT_CONFLICTS = 3
"""The exit status of an update that left files which need a person. Copier itself uses 4."""
