"""`just new`: a task, a route, a model or a migration, with its registration and its test."""

from core.dev.scaffold.write import create as create
