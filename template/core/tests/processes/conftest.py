"""A folder of a service, and commands that run in it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.config import ROOT

SETTINGS = {
    "SECRET_KEY": "x" * 32,
    "MONGODB_URL": "mongodb://127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1",
    "SERVICE": "core.tests.service:service",
}
