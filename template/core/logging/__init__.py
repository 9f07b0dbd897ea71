"""Logging through the standard library's loggers, rendered by structlog, with correlation ids."""

import core.logging.without_rich  # noqa: F401

# isort: split
from core.logging.direct import DirectLogger as DirectLogger
from core.logging.masking import MASK as MASK
from core.logging.masking import mask as mask
from core.logging.masking import mask_texts as mask_texts
from core.logging.masking import masked_texts as masked_texts
from core.logging.masking import start_masking as start_masking
from core.logging.setup import add_correlation_id as add_correlation_id
from core.logging.setup import configure_logging as configure_logging
from core.logging.setup import get_logger
from core.logging.setup import is_configured as is_configured

__all__ = ["get_logger"]
