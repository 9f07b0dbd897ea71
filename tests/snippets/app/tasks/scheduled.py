# taskplugins.py

from app.tasks.worker import worker
from core.logging import get_logger

logger = get_logger("backgroundtask")

# Define background tasks here

async def cleanup_old_logs():
    """
    Cleanup old log entries.
    Runs daily at midnight.
    """
    logger.info("Starting log cleanup task")
    # Implementation here
    logger.info("Log cleanup completed")

async def send_daily_reports():
    """
    Send daily summary reports.
    Runs every day at 9 AM.
    """
    logger.info("Sending daily reports")
    # Implementation here
    logger.info("Daily reports sent")

async def sync_external_data():
    """
    Synchronize data with external services.
    Runs every hour.
    """
    logger.info("Starting data sync")
    # Implementation here
    logger.info("Data sync completed")

async def health_check():
    """
    System health check.
    Runs every 5 minutes.
    """
    # Check system health
    pass

# Task definitions for auto-registration
TASK_DEFINITIONS = [
    {
        "id": "cleanup_old_logs",
        "name": "Cleanup Old Logs",
        "func": cleanup_old_logs,
        "trigger": "cron",
        "trigger_args": {"hour": 0, "minute": 0},
        "enabled": True,
        "max_retries": 3,
        "timeout": 300
    },
    {
        "id": "send_daily_reports",
        "name": "Send Daily Reports",
        "func": send_daily_reports,
        "trigger": "cron",
        "trigger_args": {"hour": 9, "minute": 0},
        "enabled": True,
        "max_retries": 2,
        "timeout": 600
    },
    {
        "id": "sync_external_data",
        "name": "Sync External Data",
        "func": sync_external_data,
        "trigger": "interval",
        "trigger_args": {"hours": 1},
        "enabled": False,  # Disabled by default
        "max_retries": 3,
        "timeout": 1800
    },
    {
        "id": "health_check",
        "name": "System Health Check",
        "func": health_check,
        "trigger": "interval",
        "trigger_args": {"minutes": 5},
        "enabled": True,
        "max_retries": 1,
        "timeout": 30
    }
]

def register_tasks(task_manager):
    """
    Register all tasks with the task manager.

    Args:
        task_manager: TaskManager instance
    """
    for task_def in TASK_DEFINITIONS:
        try:
            task_manager.schedule(
                func=task_def["func"],
                trigger=task_def["trigger"],
                id=task_def["id"],
                enabled=task_def["enabled"],
                **task_def["trigger_args"],
                max_retries=task_def.get("max_retries", 3),
                timeout=task_def.get("timeout", 300)
            )
            logger.info(f"Registered task: {task_def['name']}")
        except Exception as e:
            logger.error(f"Failed to register task {task_def['id']}: {e}")

register_tasks(worker)
