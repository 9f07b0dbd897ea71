"""The contract: each test runs on every engine of this service, with its real server."""
