"""Development and tests only: real servers without Docker, and the supervisor of `just dev`."""
