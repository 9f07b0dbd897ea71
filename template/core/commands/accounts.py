"""The command about accounts."""

import sys
from getpass import getpass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.commands import output
from core.commands.running import run
from core.errors import UserError

if TYPE_CHECKING:
    from core.tasks import Worker

app = typer.Typer()

Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The account's email address.")]


Role = Annotated[
    Literal["administrator", "viewer", "none"],
    typer.Option(help="A viewer may look at the console, but not act. none takes both roles away."),
]


@app.command("admin")
def _admin(email: Email, role: Role = "administrator") -> int:
    """Make a user an administrator or a viewer. Create the account if it does not exist."""

    async def act(_: "Worker") -> None:
        from core.services.accounts import remove_role

        address = _check_email(email)
        if role != "none":
            await _give(address, role)
        elif await remove_role(address):
            print(f"{address} is neither an administrator nor a viewer now.")
        else:
            raise UserError(f"{address} has no account")

    return run(act)


async def _give(address: str, role: Literal["administrator", "viewer"]) -> None:
    """Give a role to a user. Ask for a password only if the account has none yet."""
    from core.models import UserModel
    from core.services.accounts import make_admin, make_viewer, normalize_email

    user = await UserModel.find_one(UserModel.email == normalize_email(address))
    if user is None:
        output.tell(f"{address} has no account. This command creates one.")
    password = None if user and user.password_hash else _read_password()
    made = await (make_admin if role == "administrator" else make_viewer)(address, password)
    if user is None:
        print(f"created the account {made.email}")
    kept = " The password and the sessions stay." if password is None else ""
    noun = "an administrator" if role == "administrator" else "a viewer"
    print(f"{made.email} is {noun} now.{kept}")


def _check_email(text: str) -> str:
    from pydantic import EmailStr, TypeAdapter, ValidationError

    adapter: TypeAdapter[str] = TypeAdapter(EmailStr)
    try:
        return adapter.validate_python(text)
    except ValidationError:
        raise UserError(f"{text!r} is not an email address") from None


def _read_password() -> str:
    """Return the password that is typed twice, or the first line of a pipe."""
    from pydantic import TypeAdapter, ValidationError

    from core.services.accounts import Password

    if sys.stdin.isatty():
        password = getpass("Password: ")
        if password != getpass("Repeat the password: "):
            raise UserError("the passwords do not match. Nothing was changed.")
    else:
        password = sys.stdin.readline().rstrip("\n")
    adapter: TypeAdapter[str] = TypeAdapter(Password)
    try:
        return adapter.validate_python(password)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise UserError(f"the password is not valid: {problem}. Nothing was changed.") from None
