"""The address of a server that carries tickets."""

from core.config import Settings, SettingsError


def find_redis_url(settings: Settings, engine: str) -> str:
    """Return the URL of the Redis or Valkey server.

    Args:
        settings: The service's settings.
        engine: The name of the engine. It can use neither Sentinel nor a cluster.

    Raises:
        SettingsError: `REDIS_URL` is missing, or the engine cannot use it.
    """
    if settings.redis_url is None:
        raise SettingsError(
            "settings: REDIS_URL is missing: the job queue needs it (or set TASK_ENGINE=local)"
        )
    url = str(settings.redis_url)
    if not url.startswith(("redis://", "rediss://")):
        raise SettingsError(
            f"settings: REDIS_URL: the engine {engine} takes redis:// and rediss:// only, "
            "neither Sentinel nor a cluster"
        )
    return url
