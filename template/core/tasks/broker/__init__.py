"""Jobs that another queue system carries: the store keeps them, and a broker delivers their ids."""
