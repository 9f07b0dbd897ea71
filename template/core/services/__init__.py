"""What the machinery does for others: accounts, sessions, e-mail."""
