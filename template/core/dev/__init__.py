"""For development and tests only: real servers without Docker, and what starts and stops them."""
