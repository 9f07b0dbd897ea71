"""Your services: what routes and tasks share."""
