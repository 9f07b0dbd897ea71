"""The HTTP API of parcels."""

from typing import Annotated

from beanie import PydanticObjectId
from beanie.operators import In, Set
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Depends,
    File,
    Form,
    Header,
    HTTPException,
    Path,
    Query,
    Security,
    UploadFile,
    status,
)
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pydantic import BaseModel
from pymongo.errors import DuplicateKeyError

from app.models.parcel import Address, Parcel, Status, Token
from core.tasks.worker import worker
from core.web import CurrentUser

router = APIRouter(prefix="/parcels", tags=["parcels"])
oauth2 = OAuth2PasswordBearer(tokenUrl="token", auto_error=False)


class Page:
    def __init__(self, skip: int = 0, limit: int = Query(20, le=100)) -> None:
        self.skip = skip
        self.limit = limit


class NewParcel(BaseModel):
    number: str
    weight: float
    address: Address


class Changes(BaseModel):
    status: Status | None = None
    weight: float | None = None


async def get_parcel(parcel_id: PydanticObjectId) -> Parcel:
    parcel = await Parcel.get(parcel_id, fetch_links=True)
    if not parcel:
        raise HTTPException(status_code=404, detail="Parcel not found")
    return parcel


ParcelDep = Annotated[Parcel, Depends(get_parcel)]


@router.post("/token")
async def token(form: OAuth2PasswordRequestForm = Depends()) -> Token:
    if form.password != "secret":
        raise HTTPException(status.HTTP_401_UNAUTHORIZED)
    return Token(access_token=form.username, token_type="bearer")


@router.post("/", status_code=status.HTTP_201_CREATED)
async def add_parcel(new: NewParcel, user: CurrentUser) -> Parcel:
    try:
        return await Parcel(**new.model_dump(), owner=user.id).insert()
    except DuplicateKeyError:
        raise HTTPException(status_code=409, detail="This number exists")


@router.get("/", response_model=list[Parcel])
async def list_parcels(
    user: CurrentUser,
    page: Page = Depends(Page),
    states: list[Status] = Query(default=[]),
    x_trace: str | None = Header(default=None),
    bearer: str | None = Security(oauth2),
) -> list[Parcel]:
    query = Parcel.find(Parcel.owner == user.id)
    if states:
        query = query.find(In(Parcel.status, states))
    return await query.sort("-created_at").skip(page.skip).limit(page.limit).to_list()


@router.get("/{parcel_id}")
async def read_parcel(parcel: Parcel = Depends(get_parcel)) -> Parcel:
    return parcel


@router.patch("/{parcel_id}")
async def change(parcel: ParcelDep, changes: Changes = Body(...)) -> Parcel:
    await parcel.set(changes.model_dump(exclude_unset=True))
    return parcel


@router.delete("/{parcel_id}", status_code=204)
async def delete(parcel_id: PydanticObjectId) -> None:
    await Parcel.find_one(Parcel.id == parcel_id, Parcel.status == Status.OPEN).delete()


@router.post("/{number}/photo")
async def photo(
    background: BackgroundTasks,
    number: str = Path(..., min_length=3),
    caption: str = Form(""),
    file: UploadFile = File(...),
) -> dict:
    background.add_task(weigh, number)
    return {"size": len(await file.read()), "caption": caption}


async def weigh(number: str) -> None:
    await Parcel.find_one(Parcel.number == number).update(Set({Parcel.weight: 1.0}))


@worker.task(max_retries=3)
async def deliver(parcel_id: str) -> dict:
    parcel = await Parcel.get(parcel_id)
    return {"status": parcel.status if parcel else "gone"}
