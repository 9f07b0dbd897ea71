"""Your services: the code that routes and tasks share."""
