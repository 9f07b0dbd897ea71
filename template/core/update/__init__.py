"""The updater: it takes over a newer version of the template. The service does not import it."""

ANSWERS_FILE = ".copier-answers.yml"
LOCK = "uv.lock"
QUESTION = "enable_job_queue"
"""Only this template asks this question, so an answers file with it is ours."""
ENGINE = "task_engine"
"""The question that the template asks only if `QUESTION` is answered with true."""

EXIT_FAILED = 2
"""The exit status of an update that failed and changed nothing."""
EXIT_CONFLICTS = 3
"""The exit status of an update that left files which need a person. Copier itself uses 4."""
