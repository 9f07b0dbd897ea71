"""The command that looks for problems of the service, and says what to do next."""

import asyncio

import typer

from core.commands import output
from core.commands.options import Json

app = typer.Typer()

COLUMNS: output.Columns = {
    "STATE": lambda finding: finding.state,
    "CHECK": lambda finding: finding.check,
    "FOUND": lambda finding: finding.text,
    "NEXT STEP": lambda finding: finding.next_step,
}
EXIT_PROBLEM = 1


@app.command("doctor")
def _doctor(as_json: Json = False) -> int:
    """Check settings, servers, indexes, schedules and workers; exit with 1 if one has a problem."""
    from core.commands.checks import examine

    findings = asyncio.run(examine())
    output.print_list(findings, COLUMNS, "", as_json)
    return EXIT_PROBLEM if any(each.state == "problem" for each in findings) else 0
